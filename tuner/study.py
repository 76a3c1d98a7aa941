"""Running a study: new, going on after whatever cut it off, or extended."""

import dataclasses
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState
from rich.console import Console

from search_spaces.space import space_path
from tinytl.errors import ConfigError
from tinytl.weights_source import with_whole_path
from tuner import results, storage
from tuner.accuracy_on_test import read_test_accuracies
from tuner.claim import folder_claimed, storage_claimed
from tuner.cluster import Cluster
from tuner.config import REDUCTION_FACTOR, STUDY_FILE
from tuner.confirm import confirm_front, trial_configs
from tuner.prepare import PreparedStudy
from tuner.records import StudyRecords
from tuner.resources import plan_resources
from tuner.starting_points import baselines
from tuner.stopping import Stopping
from tuner.trial_config import trial_config

if TYPE_CHECKING:
    from tuner.progress import TrialLines
    from tuner.resources import TrialResources
    from tuner.scheduler import Rungs
    from tuner.search import MemoryAwareSearch, Observer

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
FIRST = 2
"""Configurations whose memory is predicted while Ray and MLflow start."""


@dataclass(frozen=True)
class StudyOutcome:
    """How a study ended."""

    status: results.StudyStatus
    complete: list[results.TrialResult]
    interrupted: bool
    note: str | None
    """Why there are fewer trials than requested, where the search itself ended early."""

    @property
    def unfinished(self) -> bool:
        """Whether `--resume` has something to do."""
        return results.ended_trials(self.status) < self.status.requested

    @property
    def exit_code(self) -> int:
        """0; 130 where interrupted; 1 where every trial failed."""
        if self.interrupted:
            return 130
        ended = results.ended_trials(self.status)
        return 1 if ended and ended == self.status.trials["failed"] else 0


def run_study(prepared: PreparedStudy, console: Console, cluster: Cluster) -> StudyOutcome:
    """Runs the trials that a prepared study still lacks, records them, and reads the result.

    Raises:
        ConfigError: where another driver runs the study, or a cluster or MLflow does not answer, before
            anything is written.
    """
    from tuner import ray_tune
    from tuner.progress import TrialLines
    from tuner.scheduler import StudyScheduler
    from tuner.tracking import StudyTracking

    config = prepared.config
    stopping = Stopping(config.time_budget)
    with ExitStack() as stack:
        stack.enter_context(folder_claimed(prepared.folder, prepared.name))
        cluster.begin()
        stack.callback(cluster.end)
        with ThreadPoolExecutor(1, "mlflow start") as starting:
            opened = starting.submit(StudyTracking, prepared)
            _predict_first(prepared)
            dashboard = cluster.dashboard_url()
            tracking = opened.result()
        if config.dashboard:
            console.print(f"Ray dashboard: {dashboard}", highlight=False)
        resources = plan_resources(config, prepared.space, prepared.base)
        if prepared.base.device == "auto":
            # What trials are given decides, not what this machine has: memory is predicted for that.
            device = "cuda" if resources.gpus_per_trial else "cpu"
            prepared = dataclasses.replace(prepared, base=dataclasses.replace(prepared.base, device=device))
        study = stack.enter_context(_opened(prepared))
        records = StudyRecords(study._storage, prepared.name)
        records.end_cut_off()
        ended = results.ended_trials(results.read_status(study))
        lines = TrialLines(console, ended, config.trials)
        search = _search(prepared, records, config.trials - ended, stopping, [tracking, lines])
        at_once = False
        with stopping.on_signals(lines.stopping):
            try:
                if ended < config.trials:
                    scheduler = StudyScheduler(search, _rungs(prepared, records), stopping)
                    ray_tune.run_trials(prepared, search, scheduler, resources)
                search.close()
                records.end_cut_off()
                if stopping.reason is None and search.unwritten is None:
                    front = results.read_status(study).pareto
                    _look_again(prepared, front, resources, stopping, lines)
            except KeyboardInterrupt:
                at_once = True
            except Exception:
                # Ray itself broke: what it leaves behind must not look as if it ran.
                search.close()
                records.end_cut_off()
                tracking.close(study, interrupted=True)
                raise
        search.close()
        if search.unwritten is not None:
            tracking.close(study, interrupted=True)
            raise ConfigError(
                f"study {prepared.name} was stopped: {search.unwritten}. What was trained is kept: make "
                f"room, then go on with --name {prepared.name} --resume"
            )
        cut_off = records.end_cut_off()
        interrupted = at_once or stopping.interrupted
        note = search.gave_up or (stopping.reason if not interrupted else None)
        status = results.read_status(study)
        unfinished = results.ended_trials(status) < config.trials
        tracking.close(study, interrupted or cut_off > 0 or unfinished)
    return StudyOutcome(status, results.complete_trials(study), interrupted, note)


def _search(
    prepared: PreparedStudy,
    records: StudyRecords,
    remaining: int,
    stopping: Stopping,
    observers: Sequence["Observer"],
) -> "MemoryAwareSearch":
    from tuner.candidates import Candidates
    from tuner.sampling import Proposals
    from tuner.search import MemoryAwareSearch

    config = prepared.config
    proposals = Proposals(
        sampler=config.sampler,
        # A study that goes on draws other numbers than it did at its start.
        seed=config.seed + len(records.trials(*FINISHED)),
        space=prepared.space,
        searches_memory=prepared.searches_memory,
    )
    candidates = Candidates(
        records=records,
        proposals=proposals,
        space=prepared.space,
        base=prepared.base,
        study_folder=prepared.folder,
        budget_mib=config.memory_budget_mib,
        stopping=stopping,
    )
    return MemoryAwareSearch(candidates=candidates, remaining=remaining, observers=observers)


def _rungs(prepared: PreparedStudy, records: StudyRecords) -> "Rungs | None":
    from tuner.scheduler import Rungs

    config = prepared.config
    if config.scheduler == "none":
        return None
    return Rungs(
        rule=config.scheduler,
        epochs=config.rung_epochs,
        reduction_factor=REDUCTION_FACTOR,
        records=results.rung_records(records.trials()),
    )


def _look_again(
    prepared: PreparedStudy,
    front: Sequence[results.TrialResult],
    resources: "TrialResources",
    stopping: Stopping,
    lines: "TrialLines",
) -> None:
    """Trains the final front again with other seeds, where that was asked for, and reads its test images."""
    if prepared.config.confirm and front:
        configs = trial_configs(prepared.folder, front)
        confirm_front(
            prepared, front, configs, resources, lines.confirmed, lambda: stopping.reason is not None
        )
    if stopping.reason is None:
        read_test_accuracies(prepared.folder, front, prepared.data, lines.note)


def _predict_first(prepared: PreparedStudy) -> None:
    """Predicts the memory of what is tried first, while others start; predictions are kept."""
    from tinytl.memory import predict_memory

    for point in [*prepared.starting_points, *baselines(prepared.space)][:FIRST]:
        with suppress(ConfigError):
            predict_memory(trial_config(prepared.base, dict(prepared.space.fixed) | dict(point.params)))


@contextmanager
def _opened(prepared: PreparedStudy) -> Iterator[optuna.Study]:
    """Opens the study in its storage, new or as it stands, and keeps other drivers off."""
    config = prepared.config
    store = storage.open_storage(config.storage, config.runs_dir)
    directions = [StudyDirection.MAXIMIZE]
    if prepared.searches_memory:
        directions.append(StudyDirection.MINIMIZE)
    study = optuna.create_study(
        study_name=prepared.name, storage=store, directions=directions, load_if_exists=True
    )
    records = StudyRecords(store, prepared.name)
    with ExitStack() as stack:
        if config.storage is not None:
            stack.enter_context(storage_claimed(store, records.study_id, prepared.name))
        _write_study(prepared, records)
        _write_study_file(prepared)
        yield study


def _write_study(prepared: PreparedStudy, records: StudyRecords) -> None:
    """Writes what is asked for, and enqueues what is to be tried first; what stands there is left alone."""
    records.set_study_attribute(results.REQUESTED, prepared.config.trials)
    for key, value in prepared.identity.items():
        records.set_study_attribute(key, value)
    known = {trial.user_attrs.get("source") for trial in records.trials()}
    distributions = {parameter.name: parameter.distribution for parameter in prepared.space.parameters}
    for point in [*prepared.starting_points, *baselines(prepared.space)]:
        if point.source not in known:
            params = (point.params, {name: distributions[name] for name in point.params})
            records.enqueue(params, {"source": point.source})


def _write_study_file(prepared: PreparedStudy) -> None:
    """Writes what made the study: command, settings, and the space as it was."""
    prepared.folder.mkdir(parents=True, exist_ok=True)
    config, copy = prepared.config, prepared.folder / f"{prepared.space.name}.yaml"
    content = dataclasses.asdict(config) | {"name": prepared.name, "command": sys.argv, "space": str(copy)}
    # Whole paths: a study may be resumed from another folder.
    if config.data_dir is not None:
        content["data_dir"] = str(Path(config.data_dir).expanduser().resolve())
    if config.from_config is not None:
        content["from_config"] = str(Path(config.from_config).resolve())
    content["weights"] = with_whole_path(config.weights)
    if config.lite_weights is not None:
        content["lite_weights"] = with_whole_path(config.lite_weights)
    if not copy.exists():
        shutil.copyfile(space_path(config.space), copy)
    temporary = prepared.folder / (STUDY_FILE + ".tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(prepared.folder / STUDY_FILE)
