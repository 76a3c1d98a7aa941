"""MLflow's view of a study as it runs: a thread records; the end brings it in line with the storage."""

import logging
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import optuna

from tuner.passwords import without_password
from tuner.record import schema
from tuner.record.results import TrialResult, complete_trials, pareto_front
from tuner.tracking.client import answering, open_mlflow, reason, refuses
from tuner.tracking.runs import STATUS, StudyRuns, changed, study_labels
from tuner.tracking.sync import sync_children, sync_runs
from tuner.tracking.trials import stored_trials

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from tuner.prepared import PreparedStudy

GATHER_S = 1.0
"""What happens within this time is written together."""
RETRY_S = 5.0
"""How long a server that went away is left alone."""
Row: TypeAlias = tuple[Mapping[str, Any], int]
"""A row of metrics.jsonl, and when it came, in ms."""

logger = logging.getLogger(__name__)


@dataclass
class _News:
    """What is not yet in a trial's run."""

    started: tuple[Mapping[str, Any], int] | None = None
    """Its parameters, and when, in ms."""
    rows: dict[int, Row] = field(default_factory=dict)
    """By epoch."""
    ended: tuple[str, str | None, int] | None = None
    """Its state, the reason, and when, in ms."""


class StudyTracking:
    """Records a study as it runs; its calls but `close` only put into a queue.

    A server that goes away costs nothing: what it missed is written once it is back, or by `close`, or by
    `python -m tuner sync NAME`.

    Raises:
        ConfigError: at the start, where MLflow does not answer.
    """

    def __init__(
        self, prepared: "PreparedStudy", study: optuna.Study, client: "MlflowClient | None" = None
    ) -> None:
        """Makes or finds the run of `study`; trials that are in its record already come first.

        `client`: what `open_mlflow` returned, where that was called before.
        """
        config = prepared.config
        self.folder = prepared.folder
        self.uri = config.resolved_tracking_uri
        self._sync_command = f"python -m tuner sync {prepared.name}"
        if config.runs_dir != type(config).runs_dir:
            self._sync_command += f" --runs-dir {config.runs_dir}"
        labels = study_labels(study, config.runs_dir, self.uri)
        self._session = labels.sessions[-1] if labels.sessions else None
        client = client or open_mlflow(self.uri)
        with answering(self.uri):
            self.runs = StudyRuns(client, labels)
            self.runs.add_images(self.runs.parent, self._session)
            if not self.runs.parent_is_new:
                self._reopen_parent()
        has_past = any(schema.NAME in trial.user_attrs for trial in study.get_trials(deepcopy=False))
        self._past = study if has_past else None
        self._run_ids: dict[str, str] | None = None
        """Of each trial's run; None: ask MLflow, which may have got more than it could answer to."""
        self._epochs: dict[str, set[int]] = {}
        """Recorded ones, of the trials whose run was written to."""
        self._with_params: set[str] = set()
        """Trials whose run has its parameters: MLflow refuses others, as of another device."""
        self._complete = {result.trial: result for result in complete_trials(study)}
        self._front = {result.trial for result in pareto_front(list(self._complete.values()))}
        self._last_rows: dict[str, Mapping[str, Any]] = {}
        """The latest of each trial that runs."""
        self._refused: set[str] = set()
        """Trials of which MLflow refused something."""
        self._news: dict[str, _News] = {}
        self._away = False
        self._queue: queue.SimpleQueue[tuple[str, _News] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._record, name="mlflow", daemon=True)
        self._thread.start()

    def trial_started(self, name: str, params: Mapping[str, Any]) -> None:
        """A trial starts, or goes on; `params` are the fields of its configuration."""
        self._queue.put((name, _News(started=(dict(params), _now_ms()))))

    def epoch_ended(self, name: str, row: Mapping[str, Any]) -> None:
        """A trial reports a row of its metrics.jsonl."""
        self._queue.put((name, _News(rows={int(row["epoch"]): (dict(row), _now_ms())})))

    def trial_ended(self, name: str, state: str, reason: str | None) -> None:
        """A trial ends: complete, pruned, failed, infeasible (its run goes) or interrupted."""
        self._queue.put((name, _News(ended=(state, reason, _now_ms()))))

    def close(self, study: optuna.Study, interrupted: bool) -> None:
        """Waits until all is recorded, brings MLflow in line with the storage and ends the parent run."""
        self._queue.put(None)
        self._thread.join()
        try:
            self.runs.parent = self.runs.client.get_run(self.runs.parent.info.run_id)
            runs_dir = str(self.folder.parent)
            sync_runs(self.runs, study, runs_dir, driver_is_gone=True, interrupted=interrupted)
        except Exception as error:  # the study is whole without it
            logger.warning(
                "MLflow at %s does not have all (%s): once it %s, `%s` brings the records",
                without_password(self.uri),
                reason(error),
                "takes them" if refuses(error) else "answers",
                self._sync_command,
            )

    def _reopen_parent(self) -> None:
        """A resumed study runs again, with the settings of now."""
        parent = self.runs.parent
        if parent.info.status != "RUNNING":
            self.runs.client.update_run(parent.info.run_id, status="RUNNING")
        self.runs.log(parent.info.run_id, tags=changed(self.runs.labels.parent_tags, parent.data.tags))
        self.runs.parent = self.runs.client.get_run(parent.info.run_id)

    def _record(self) -> None:
        if self._past is not None:
            try:
                trials = stored_trials(self._past, self.folder, driver_is_gone=False)
                sync_children(self.runs, trials, self.folder)
            except Exception as error:  # `close` does it again
                logger.info("MLflow: %s", reason(error))
        closing = False
        while not closing:
            closing = self._gather()
            self._write_news()

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
            known.started = known.started or news.started
            known.rows = news.rows | known.rows  # of an epoch that is trained again, the first
            if news.rows:
                self._last_rows[name] = news.rows[max(news.rows)][0]
            # A trial that goes on after an end that is not yet written has not ended.
            known.ended = None if news.started else news.ended or known.ended

    def _write_news(self) -> None:
        """Writes what came, trial by trial; where MLflow does not answer, the rest waits."""
        for name in list(self._news):
            try:
                self._write(name, self._news[name])
            except Exception as error:  # recording must never stop the training that it records
                self._run_ids = None
                self._epochs.clear()
                # To the end: what MLflow may refuse holds up no other trial.
                self._news[name] = self._news.pop(name)
                if refuses(error):
                    if name not in self._refused:
                        logger.warning("MLflow refuses %s (%s): training goes on", name, reason(error))
                    self._refused.add(name)
                    continue
                if not self._away:
                    logger.warning("MLflow does not answer (%s): training goes on without it", reason(error))
                self._away = True
                return
            del self._news[name]
        self._away = False

    def _write(self, name: str, news: _News) -> None:
        if self._run_ids is None:
            children = {trial: found[0] for trial, found in self.runs.children().items()}
            self._with_params = {trial for trial, run in children.items() if run.data.params}
            self._run_ids = {trial: run.info.run_id for trial, run in children.items()}
        state, why, end_ms = news.ended or ("running", None, None)
        params, start_ms = news.started or ({}, None)
        run_id = self._run_ids.get(name)
        if state == "infeasible":
            if run_id is not None:
                self.runs.client.delete_run(run_id)
                del self._run_ids[name]
            return
        tags: dict[str, str] = {}
        if run_id is None:
            run_id = self._run_ids[name] = self.runs.new_child(name, params, start_ms, self._session)
            self._epochs[name] = set()
        elif news.started:
            # It goes on, or MLflow's answer was lost.
            self.runs.client.update_run(run_id, status="RUNNING")
            tags = {"state": "running"} | ({} if self._session is None else self._session.tags)
        if name not in self._epochs:
            self._epochs[name] = self.runs.recorded_epochs(run_id)
        recorded = self._epochs[name]
        rows = {epoch: row for epoch, row in news.rows.items() if epoch not in recorded}
        for row, _ in rows.values():
            if "device_name" in row:
                tags["device.name"] = str(row["device_name"])
        if news.ended:
            tags["state"] = state
            if why and state == "failed":
                tags["failure"] = why
        front = self._front_with(name) if state == "complete" else self._front
        if state == "complete":
            tags["on_front"] = str(name in front).lower()
        self.runs.log(run_id, {} if name in self._with_params else params, list(rows.values()), tags)
        if params:
            self._with_params.add(name)
        recorded.update(rows)
        for left in self._front - front - {name}:
            if left in self._run_ids:
                self.runs.client.set_tag(self._run_ids[left], "on_front", "false")
        self._front = front
        if news.ended:
            self.runs.end(run_id, STATUS[state], end_ms)
            self._epochs.pop(name)
            self._last_rows.pop(name, None)

    def _front_with(self, name: str) -> set[str]:
        """Returns the names on the front once a trial is complete: what it ends with is in its last row."""
        row = self._last_rows.get(name, {})
        if name not in self._complete and {"accuracy_top1", "peak_memory_mib"} <= row.keys():
            self._complete[name] = TrialResult(
                trial=name,
                accuracy_top1=row["accuracy_top1"],
                peak_memory_mib=row["peak_memory_mib"],
                epoch_time_s=row.get("epoch_time_s", 0.0),
                params={},
            )
        return {result.trial for result in pareto_front(list(self._complete.values()))}


def _now_ms() -> int:
    return int(time.time() * 1000)
