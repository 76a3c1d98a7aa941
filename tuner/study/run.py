"""Running a study: a new one, one that was cut off, or one that is extended."""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.trial import TrialState
from rich.console import Console

from tinytl.data.splits import DataSplits, ImageFiles
from tinytl.errors import ConfigError
from tinytl.files import disk_is_full
from tuner.cluster.node_checks import check_images
from tuner.cluster.nodes import nodes_for_trials
from tuner.cluster.resources import nodes_of, plan_resources
from tuner.cluster.start import Cluster
from tuner.config import REDUCTION_FACTOR, WITHOUT_TRACKING, StudyConfig
from tuner.findings.sureness import Sureness
from tuner.next_commands import resume_command
from tuner.prepared import PreparedStudy
from tuner.record.accuracy_on_test import read_test_images
from tuner.record.identity import identity_of
from tuner.record.journal import journal_of
from tuner.record.measured_slowdown import measure_slowdowns
from tuner.record.reading import StudyReading, read_study
from tuner.record.refusals import UnwrittenError, told_in_one_line
from tuner.record.storage import shown_storage
from tuner.record.trials import Trial, merged_trials
from tuner.record.writer import StudyRecords
from tuner.stopping import Stopping
from tuner.study import machine_times
from tuner.study.confirm import cost_line, train_with_seeds, trial_configs
from tuner.study.damaged import set_aside_damaged
from tuner.study.driving import driven
from tuner.study.opening import opened
from tuner.study.race import race
from tuner.study.starting_points import baselines
from tuner.terminal.notice import Notice, no_notice
from tuner.tracking.client import answering, open_mlflow
from tuner.tracking.lookup import experiment_name, refuse_taken_name
from tuner.trial_config import trial_config

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from tuner.cluster.resources import TrialResources
    from tuner.search.scheduler import Rungs
    from tuner.search.searcher import MemoryAwareSearch, Observer
    from tuner.terminal.lines import TrialLines

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
FIRST = 2
"""The number of configurations with memory that is predicted while Ray and MLflow start."""


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
    from tuner.cluster.waiting import Waiting
    from tuner.search.scheduler import StudyScheduler
    from tuner.study import ray_tune
    from tuner.tracking.live import StudyTracking

    stopping = Stopping(prepared.config.time_budget)
    with ExitStack() as stack:
        prepared, kept = stack.enter_context(driven(prepared))
        config = prepared.config
        notice(_what_starts(config))
        cluster.begin()
        stack.callback(cluster.end)
        if config.address is not None:
            cluster.dashboard_url()  # raises if we cannot join it, before MLflow's database is made
        with ThreadPoolExecutor(1, "mlflow start") as starting:
            client = starting.submit(_open_tracking, prepared)
            _predict_first(prepared)
            dashboard = cluster.dashboard_url()
            client.result()
        notice(None)
        if config.dashboard:
            text = f"Ray dashboard: {dashboard}  (asks for a token: `ray get-auth-token` prints it)"
            console.print(text, highlight=False, soft_wrap=True)
        nodes = nodes_of(config, prepared.base)
        for line in machine_times.ask_gpus(prepared.folder, nodes):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        resources = plan_resources(config, prepared.space, prepared.base, nodes)
        if config.address is not None:
            able = nodes_for_trials(resources.gpus_per_trial)
            check_images(able, _streamed(prepared.data))
            kept.check_nodes(able)
        if prepared.base.device == "auto":
            # The trials' device decides, not this machine's: memory is predicted for it.
            device = "cuda" if resources.gpus_per_trial else "cpu"
            prepared = dataclasses.replace(prepared, base=dataclasses.replace(prepared.base, device=device))
        study, records = stack.enter_context(opened(prepared, kept.secure))
        tracking = StudyTracking(prepared, study, client.result()) if config.tracks else None
        with told_in_one_line(_place(prepared), ", then add --resume"):
            records.end_cut_off()
        for line in set_aside_damaged(study, prepared.folder):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        past = read_study(study)
        ended = past.ended
        lines = _lines(prepared, past, records, resources.workers, console)
        metrics = StudyMetrics(past, prepared.folder, config.memory_budget_mib, lambda: records.refused)
        stack.callback(metrics.close)
        observers: list[Observer] = [metrics, lines] if tracking is None else [tracking, metrics, lines]
        search = _search(prepared, records, config.trials - ended, stopping, observers, resources.held_mib)
        with lines, stopping.on_signals(lines.stopping):
            try:
                if ended < config.trials:
                    waiting = Waiting(lines.note)
                    scheduler = StudyScheduler(search, _rungs(prepared, records), stopping, waiting)
                    ray_tune.run_trials(prepared, search, scheduler, resources)
                search.close()
                if stopping.reason is None and search.unwritten is None:
                    records.end_cut_off()
                    front = records.reach(read_study, study).front
                    records.reach(kept.collect)

                    def reread() -> StudyReading:
                        records.reach(kept.collect)
                        runs_dir = str(prepared.folder.parent)
                        return records.reach(read_study, study, runs_dir, driver_is_gone=True)

                    _look_again(prepared, front, reread, resources, stopping, lines)
            except (KeyboardInterrupt, UnwrittenError):
                pass  # a second Ctrl-C, which `stopping` knows, or a failed storage, which `records` knows
            except Exception:
                if search.bug is None:  # that is raised below: Ray may stumble over how the search ended
                    raise
            finally:
                # After any failure, no trial may look as if it still ran.
                with suppress(KeyboardInterrupt):
                    lines.phase("recording the end")
                    search.close()
                    if search.unwritten is None:
                        with suppress(UnwrittenError):
                            records.end_cut_off()
                    unfinished = True
                    with suppress(UnwrittenError):
                        unfinished = records.reach(read_study, study).ended < config.trials
                    if tracking is not None:
                        with suppress(UnwrittenError):
                            records.reach(kept.collect)
                        tracking.close(study, stopping.interrupted or unfinished)
                        unsent = kept.send_tracking() if config.tracking_uri is None else None
                        if unsent is not None:
                            lines.note(unsent)
        if search.bug is not None:
            go_on = resume_command(prepared.name, config.runs_dir)
            search.bug.add_note(f"This is a bug. What was trained is kept; resume with `{go_on}`")
            raise search.bug
        unwritten = search.unwritten or records.unwritten
        if unwritten is not None:
            remedy = "" if records.remedy is None else f"{records.remedy}, then "
            raise ConfigError(
                f"study {prepared.name} was stopped: {unwritten}. What was trained is kept: {remedy}"
                f"resume with `{resume_command(prepared.name, config.runs_dir)}`"
            )
        note = search.gave_up or (None if stopping.interrupted else stopping.reason)
        found = read_study(study, config.runs_dir)
    page = None if tracking is None else tracking.page
    return StudyOutcome(found, stopping.interrupted, note, search.gave_up is not None, page)


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


def _search(
    prepared: PreparedStudy,
    records: StudyRecords,
    remaining: int,
    stopping: Stopping,
    observers: Sequence["Observer"],
    held_mib: float,
) -> "MemoryAwareSearch":
    from tinytl.selection.choose import chosen
    from tuner.search.candidates import Candidates
    from tuner.search.sampling import Proposals
    from tuner.search.searcher import MemoryAwareSearch

    config = prepared.config
    proposals = Proposals(
        sampler=config.sampler,
        # A resumed study draws other numbers than at its start.
        seed=config.seed + len(records.trials(*FINISHED)),
        space=prepared.space,
        searches_memory=prepared.searches_memory,
        budget_mib=config.memory_budget_mib,
    )
    candidates = Candidates(
        records=records,
        proposals=proposals,
        space=prepared.space,
        base=prepared.base,
        study_folder=prepared.folder,
        budget_mib=config.memory_budget_mib,
        max_slowdown=config.max_slowdown,
        held_mib=held_mib,
        stopping=stopping,
        settle=lambda config: chosen(config, prepared.data, prepared.weights[config.backbone]),
    )
    return MemoryAwareSearch(candidates=candidates, remaining=remaining, observers=observers)


def _rungs(prepared: PreparedStudy, records: StudyRecords) -> "Rungs | None":
    from tuner.search.scheduler import Rungs

    config = prepared.config
    if config.scheduler == "none":
        return None
    return Rungs(
        rule=config.scheduler,
        epochs=config.rung_epochs,
        reduction_factor=REDUCTION_FACTOR,
        past=merged_trials(records.trials()),
    )


def _look_again(
    prepared: PreparedStudy,
    front: Sequence[Trial],
    read: Callable[[], StudyReading],
    resources: "TrialResources",
    stopping: Stopping,
    lines: "TrialLines",
) -> None:
    """Trains again with other seeds, the final front if that was asked for, else what cannot be told apart
    from the best; reads test images for the front and the best; measures the slowdowns of their plans, if
    trials ran on this machine's CPU. `read` reads the study.
    """

    def is_stopped() -> bool:
        return stopping.reason is not None

    try:
        if prepared.config.confirm and front:
            lines.phase("training the front again")
            alike = [trial for trial in Sureness(read()).contenders if not trial.on_front]
            again = [*front, *alike]
            configs = trial_configs(prepared.folder, again)
            seeds = prepared.config.confirm
            cost = cost_line(prepared.folder, again, configs, seeds, resources.workers)
            if cost is not None:
                lines.note(cost)
            train_with_seeds(prepared, again, configs, seeds, resources, lines.confirmed, is_stopped)
        elif front:
            race(prepared, read, resources, lines, is_stopped)
        best = read().best
        shown = [*front, *([] if best is None or best.on_front else [best])]
        if stopping.reason is None:
            lines.phase("reading test images")
            read_test_images(prepared.folder, shown, prepared.data, lines.note)
        if stopping.reason is None and not resources.gpus_per_trial and prepared.config.address is None:
            lines.phase("measuring slowdowns")
            measure_slowdowns(
                prepared.folder,
                shown,
                trial_configs(prepared.folder, shown),
                resources.held_mib,
                is_stopped,
            )
    except ConfigError as error:  # the study itself is complete
        lines.note(str(error))


def _predict_first(prepared: PreparedStudy) -> None:
    """Predicts the memory of what is tried first, while Ray and MLflow start; predictions are cached."""
    from tinytl.memory.curve import memory_curve
    from tinytl.memory.predict import with_scheme

    for point in [*prepared.starting_points, *baselines(prepared.space)][:FIRST]:
        with suppress(ConfigError):
            config = trial_config(prepared.base, dict(prepared.space.fixed) | dict(point.params))
            memory_curve(with_scheme(config))
