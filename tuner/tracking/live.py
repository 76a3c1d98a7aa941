"""MLflow's view of a study as it runs: a thread records; the end brings all in line with the storage."""

import logging
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import optuna

from tinytl.errors import ConfigError
from tinytl.passwords import without_password
from tuner.next_commands import sync_command, where_flags
from tuner.record.reading import read_study
from tuner.record.results import pareto_front
from tuner.record.trials import Trial, metric_of_row, trial_of_row
from tuner.tracking.children import Row, TrialRuns
from tuner.tracking.client import answering, mlflow_errors, open_mlflow, reason, refuses
from tuner.tracking.runs import StudyRuns, changed, digests_of, study_labels
from tuner.tracking.sync import sync_runs, sync_trials
from tuner.tracking.view import runs_path, view_path

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from tuner.prepared import PreparedStudy

GATHER_S = 1.0
"""What happens within this time is written in one call."""
RETRY_S = 5.0
"""How long to leave a server alone that does not answer."""

logger = logging.getLogger(__name__)


@dataclass
class _News:
    """What is not yet in a trial's run."""

    params: Mapping[str, Any] | None = None
    """Its configuration, if it started."""
    searched: Mapping[str, Any] = field(default_factory=dict)
    """The values of it that were searched."""
    source: str | None = None
    """Where they came from, if the sampler did not choose them."""
    start: datetime | None = None
    rows: dict[int, Row] = field(default_factory=dict)
    """By epoch."""
    state: str = "running"
    reason: str | None = None
    end: datetime | None = None


class StudyTracking:
    """Records a study as it runs; all calls except `close` only put news into a queue.

    A server that stops answering costs nothing: what it missed is written once it answers again, or by
    `close`, or by `python -m tuner sync NAME`.

    Raises:
        ConfigError: at the start, if MLflow does not answer.
    """

    def __init__(
        self, prepared: "PreparedStudy", study: optuna.Study, client: "MlflowClient | None" = None
    ) -> None:
        """Makes or finds the run of `study`; trials that are in its record already come first.

        `client`: what `open_mlflow` returned, if that was called before.
        """
        config = prepared.config
        self.folder = prepared.folder
        self.uri = config.resolved_tracking_uri
        self._sync_command = sync_command(prepared.name, where_flags(config.runs_dir))
        reading = read_study(study, config.runs_dir, driver_is_gone=False)
        labels = study_labels(reading, self.uri)
        client = client or open_mlflow(self.uri)
        with answering(self.uri):
            self.runs = StudyRuns(client, labels)
            parent = self.runs.parent
            session = labels.sessions[-1] if labels.sessions else None
            self.runs.add_images(parent.info.run_id, digests_of(parent), session)
            if not self.runs.parent_is_new:
                self._reopen_parent()
        self.page = runs_path(reading.name, self.runs.experiment_id)
        """Where MLflow shows the study, relative to the server; its own view once that is written."""
        self._past = reading
        self._trial_runs: TrialRuns | None = None
        """None: read them from MLflow, as it may have stored more than it confirmed."""
        self._front = {trial.name: trial for trial in reading.front}
        self._last_rows: dict[str, Mapping[str, Any]] = {}
        """The latest row of each running trial."""
        self._refused: set[str] = set()
        """Trials with something that MLflow refused."""
        self._news: dict[str, _News] = {}
        self._away = False
        self._broken = False
        """Whether a bug has ended the recording."""
        self._queue: queue.SimpleQueue[tuple[str, _News] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._record, name="mlflow", daemon=True)
        self._thread.start()

    def trial_started(
        self, name: str, params: Mapping[str, Any], searched: Mapping[str, Any], source: str | None
    ) -> None:
        """A trial starts, or resumes; `params` are the fields of its configuration."""
        started = _News(params=dict(params), searched=searched, source=source, start=datetime.now())
        self._queue.put((name, started))

    def epoch_ended(self, name: str, row: Mapping[str, Any]) -> None:
        """A trial reports a row of its metrics.jsonl."""
        self._queue.put((name, _News(rows={int(row["epoch"]): (dict(row), _now_ms())})))

    def trial_ended(self, name: str, state: str, reason: str | None) -> None:
        """A trial ends: complete, pruned, failed, infeasible (its run is removed) or interrupted."""
        self._queue.put((name, _News(state=state, reason=reason, end=datetime.now())))

    def close(self, study: optuna.Study, interrupted: bool) -> None:
        """Waits until all is recorded, brings MLflow in line with the storage and ends the parent run."""
        self._queue.put(None)
        self._thread.join()
        if self._broken:
            return
        try:
            reading = read_study(study, str(self.folder.parent), driver_is_gone=True)
            self.runs.parent = self.runs.client.get_run(self.runs.parent.info.run_id)
            sync_runs(self.runs, reading, interrupted)
            self.page = view_path(reading.name, self.runs.experiment_id)
        except mlflow_errors(ConfigError) as error:  # the study is whole without it
            logger.warning(
                "MLflow at %s does not have all (%s): once it %s, `%s` adds the rest",
                without_password(self.uri),
                reason(error),
                "accepts records" if refuses(error) else "answers",
                self._sync_command,
            )
        except Exception:
            self._report_bug()

    def _reopen_parent(self) -> None:
        """Marks the run of a resumed study as running, with the current settings."""
        parent = self.runs.parent
        if parent.info.status != "RUNNING":
            self.runs.client.update_run(parent.info.run_id, status="RUNNING")
        self.runs.log(parent.info.run_id, tags=changed(self.runs.labels.parent_tags, parent.data.tags))
        self.runs.parent = self.runs.client.get_run(parent.info.run_id)

    def _record(self) -> None:
        try:
            if self._past.trials:
                self._bring_past()
            closing = False
            while not closing:
                closing = self._gather()
                self._write_news()
        except Exception:  # recording must never stop the training that it records
            self._report_bug()

    def _report_bug(self) -> None:
        self._broken = True
        logger.exception(
            "recording in MLflow stopped at an error of its own, training continues: `%s` adds the rest",
            self._sync_command,
        )

    def _bring_past(self) -> None:
        try:
            runs = TrialRuns(self.runs)
            sync_trials(runs, self._past)
            self._trial_runs = runs
        except mlflow_errors() as error:  # `close` does it again
            logger.info("MLflow: %s", reason(error))

    def _gather(self) -> bool:
        """Waits for news and collects what comes soon after; returns whether the study is over."""
        deadline = time.monotonic() + RETRY_S if self._news else None
        while True:
            wait_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                item = self._queue.get(timeout=wait_s)
            except queue.Empty:
                return False
            if item is None:
                return True
            if deadline is None:
                deadline = time.monotonic() + GATHER_S
            name, news = item
            known = self._news.setdefault(name, _News())
            if news.params is not None:
                # A trial may resume before its end is written: then it has not ended.
                known.params, known.start = known.params or news.params, known.start or news.start
                known.searched, known.source = news.searched, news.source
                known.state, known.reason, known.end = "running", None, None
            elif news.end is not None:
                known.state, known.reason, known.end = news.state, news.reason, news.end
            known.rows = news.rows | known.rows  # of an epoch that is trained twice, the first row
            if news.rows:
                self._last_rows[name] = news.rows[max(news.rows)][0]

    def _write_news(self) -> None:
        """Writes what came, trial by trial; if MLflow does not answer, the rest waits."""
        for name in list(self._news):
            try:
                self._write(name, self._news[name])
            except mlflow_errors() as error:
                self._trial_runs = None
                # Moved to the end: news that MLflow may refuse does not hold up other trials.
                self._news[name] = self._news.pop(name)
                if refuses(error):
                    if name not in self._refused:
                        logger.warning("MLflow refuses %s (%s): training continues", name, reason(error))
                    self._refused.add(name)
                    continue
                if not self._away:
                    text = "MLflow does not answer (%s): training continues without it"
                    logger.warning(text, reason(error))
                self._away = True
                return
            del self._news[name]
        self._away = False

    def _write(self, name: str, news: _News) -> None:
        if self._trial_runs is None:
            self._trial_runs = TrialRuns(self.runs)
        front = self._front_with(name) if news.state == "complete" else self._front
        trial = Trial(
            name=name,
            state=news.state,
            params=news.searched,
            source=news.source,
            failure=news.reason,
            start=news.start,
            last_start=datetime.now(),  # it runs in the current session
            end=news.end,
            on_front=name in front,
        )
        self._trial_runs.bring_in_line(trial, list(news.rows.values()), lambda: news.params or {})
        for left in self._front.keys() - front.keys() - {name}:
            self._trial_runs.leaves_front(left)
        self._front = front
        if news.end is not None:
            self._last_rows.pop(name, None)

    def _front_with(self, name: str) -> dict[str, Trial]:
        """Returns the front with a trial that is complete now, by the figures of its last row.

        What the front beats stays beaten: no other trial is looked at, however many there are.
        """
        row = self._last_rows.get(name, {})
        if name in self._front or not {metric_of_row(row), "peak_memory_mib"} <= row.keys():
            return self._front
        trial = trial_of_row(name, row)
        return {found.name: found for found in pareto_front([*self._front.values(), trial])}


def _now_ms() -> int:
    return int(time.time() * 1000)
