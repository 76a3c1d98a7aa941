"""Running a study: a new one, one that was cut off, or one that is extended."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from tinytl.data.splits import DataSplits, ImageFiles
from tinytl.errors import ConfigError
from tinytl.files import disk_is_full
from tuner.cluster.node_checks import check_images
from tuner.cluster.nodes import nodes_for_trials
from tuner.cluster.resources import nodes_of, plan_resources
from tuner.cluster.start import Cluster
from tuner.config import WITHOUT_TRACKING, StudyConfig
from tuner.prepared import PreparedStudy
from tuner.record.identity import identity_of
from tuner.record.journal import journal_of
from tuner.record.reading import StudyReading, read_study
from tuner.record.refusals import told_in_one_line
from tuner.record.storage import shown_storage
from tuner.record.writer import StudyRecords
from tuner.stopping import Stopping
from tuner.study import machine_times
from tuner.study.damaged import set_aside_damaged
from tuner.study.driving import KeptHere, driven
from tuner.study.opening import opened
from tuner.study.running import RunningStudy
from tuner.study.searching import predict_first, search_of
from tuner.terminal.notice import Notice, no_notice
from tuner.tracking.client import answering, open_mlflow
from tuner.tracking.lookup import experiment_name, refuse_taken_name

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from tuner.cluster.resources import TrialResources
    from tuner.search.searcher import Observer
    from tuner.terminal.lines import TrialLines


@dataclass(frozen=True)
class StudyOutcome:
    """How a study ended."""

    study: StudyReading
    interrupted: bool
    note: str | None
    """Why there are fewer trials than requested, if the search itself ended early."""
    gave_up: bool
    """Whether it ended because it found nothing more to train, or could not train it."""
    page: str | None = None
    """Where MLflow shows it, relative to the server; None: it was not recorded there."""

    @property
    def unfinished(self) -> bool:
        """Whether `--resume` has something to do."""
        return self.interrupted or self.study.ended < self.study.requested

    @property
    def exit_code(self) -> int:
        """0; 130 if interrupted; 1 if every trial failed, or the search found none to train."""
        if self.interrupted:
            return 130
        if self.study.counts["complete"] or self.study.counts["pruned"]:
            return 0
        return 1 if self.study.counts["failed"] or self.gave_up else 0


def run_study(
    prepared: PreparedStudy, console: Console, cluster: Cluster, notice: Notice = no_notice
) -> StudyOutcome:
    """Runs the trials that a prepared study still lacks, records them, and reads the result.

    `notice` is called with what happens before the first trial starts.

    Raises:
        ConfigError: if another driver runs the study, or a cluster or MLflow does not answer, before
            anything is written.
    """
    from tuner.cluster.metrics import StudyMetrics
    from tuner.tracking.live import StudyTracking

    stopping = Stopping(prepared.config.time_budget)
    with ExitStack() as stack:
        prepared, kept = stack.enter_context(driven(prepared))
        notice(_what_starts(prepared.config))
        cluster.begin()
        stack.callback(cluster.end)
        client = _mlflow_while_ray_starts(prepared, cluster)
        notice(None)
        if prepared.config.dashboard:
            url = cluster.dashboard_url()
            _print(console, f"Ray dashboard: {url}  (asks for a token: `ray get-auth-token` prints it)")
        prepared, resources = _placed(prepared, kept, console)
        study, records = stack.enter_context(opened(prepared, kept.secure))
        tracking = StudyTracking(prepared, study, client) if prepared.config.tracks else None
        with told_in_one_line(_place(prepared), ", then add --resume"):
            records.end_cut_off()
        for line in set_aside_damaged(study, prepared.folder):
            _print(console, line)
        past = read_study(study)
        lines = _lines(prepared, past, records, resources.workers, console)
        metrics = StudyMetrics(
            past, prepared.folder, prepared.config.memory_budget_mib, lambda: records.refused
        )
        stack.callback(metrics.close)
        observers: list[Observer] = [metrics, lines] if tracking is None else [tracking, metrics, lines]
        remaining = prepared.config.trials - past.ended
        search = search_of(prepared, records, remaining, stopping, observers, resources.held_mib)
        running = RunningStudy(
            prepared, kept, study, records, tracking, resources, stopping, search, lines, remaining
        )
        running.run()
        note = search.gave_up or (None if stopping.interrupted else stopping.reason)
        found = read_study(study, prepared.config.runs_dir)
    page = None if tracking is None else tracking.page
    return StudyOutcome(found, stopping.interrupted, note, search.gave_up is not None, page)


def _mlflow_while_ray_starts(prepared: PreparedStudy, cluster: Cluster) -> "MlflowClient | None":
    """Opens MLflow and predicts the first trials' memory while Ray starts; returns MLflow's client."""
    if prepared.config.address is not None:
        cluster.dashboard_url()  # raises if we cannot join it, before MLflow's database is made
    with ThreadPoolExecutor(1, "mlflow start") as starting:
        client = starting.submit(_open_tracking, prepared)
        predict_first(prepared)
        cluster.dashboard_url()  # raises if Ray did not start
        return client.result()


def _placed(
    prepared: PreparedStudy, kept: KeptHere, console: Console
) -> "tuple[PreparedStudy, TrialResources]":
    """Returns the study with the device that its trials have, and what each of them gets of the nodes.

    Raises:
        ConfigError: if no node can run a trial, or one cannot read the images or write the results.
    """
    config = prepared.config
    nodes = nodes_of(config, prepared.base)
    for line in machine_times.ask_gpus(prepared.folder, nodes):
        _print(console, line)
    resources = plan_resources(config, prepared.space, prepared.base, nodes)
    if config.address is not None:
        able = nodes_for_trials(resources.gpus_per_trial)
        check_images(able, _streamed(prepared.data))
        kept.check_nodes(able)
    if prepared.base.device == "auto":
        # The trials' device decides, not this machine's: memory is predicted for it.
        device = "cuda" if resources.gpus_per_trial else "cpu"
        prepared = dataclasses.replace(prepared, base=dataclasses.replace(prepared.base, device=device))
    return prepared, resources


def _print(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _place(prepared: PreparedStudy) -> str:
    config = prepared.config
    return shown_storage(config.storage, str(journal_of(config.runs_dir, prepared.name).parent))


def _what_starts(config: StudyConfig) -> str:
    begun = "starting Ray" if config.address is None else f"joining the Ray cluster at {config.address}"
    return f"{begun}, opening MLflow" if config.tracks else begun


def _streamed(data: DataSplits) -> list[Path]:
    """Returns some of the files that trials read: the first of each split."""
    return [split.path(0) for split in (data.train, data.val) if isinstance(split, ImageFiles)]


def _lines(
    prepared: PreparedStudy, past: StudyReading, records: StudyRecords, workers: int, console: Console
) -> "TrialLines":
    """Returns a live view for a terminal or a notebook, plain lines for anything else."""
    from tuner.terminal.lines import TrialLines
    from tuner.terminal.notebook import in_notebook
    from tuner.terminal.notebook_screen import NotebookScreen

    config, notebook = prepared.config, in_notebook()
    if config.verbose or not (notebook or (console.file.isatty() and console.is_interactive)):
        return TrialLines(console, past.ended, config.trials, config.metric)
    from tuner.terminal.board import StudyBoard
    from tuner.terminal.live_view import LiveView

    board = StudyBoard(
        requested=config.trials,
        epochs=config.epochs,
        workers=workers,
        budget_mib=config.memory_budget_mib,
        metric=config.metric,
        counts=past.counts,
        results=past.complete,
    )
    return LiveView(console, board, lambda: records.refused, NotebookScreen if notebook else None)


def _open_tracking(prepared: PreparedStudy) -> "MlflowClient | None":
    config = prepared.config
    if not config.tracks:
        return None
    try:
        client = open_mlflow(config.resolved_tracking_uri)
    except ConfigError as error:
        raise ConfigError(str(error) if disk_is_full(error) else f"{error}; {WITHOUT_TRACKING}") from None
    if not config.resume:
        with answering(config.resolved_tracking_uri):
            refuse_taken_name(client, experiment_name(identity_of(prepared)), prepared.name)
    return client
