"""Running a study: new, or going on with one that was cut off."""

import dataclasses
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState
from rich.console import Console

from search_spaces.space import space_path
from tinytl.weights_source import with_whole_path
from tuner import results, storage
from tuner.config import STUDY_FILE
from tuner.prepare import PreparedStudy


@dataclass(frozen=True)
class StudyOutcome:
    """How a study ended."""

    status: results.StudyStatus
    complete: list[results.TrialResult]
    interrupted: bool
    note: str | None
    """Why there are fewer trials than requested, where the search itself ended early."""

    @property
    def exit_code(self) -> int:
        """0; 130 where interrupted; 1 where every trial failed."""
        if self.interrupted:
            return 130
        ended = results.ended_trials(self.status)
        return 1 if ended and ended == self.status.trials["failed"] else 0


def run_study(prepared: PreparedStudy, console: Console) -> StudyOutcome:
    """Runs the trials that a prepared study still lacks, records them, and reads the result.

    Raises:
        ConfigError: where a cluster or MLflow does not answer, before anything is written.
    """
    from tuner import ray_tune
    from tuner.progress import TrialLines
    from tuner.search import MemoryAwareSearch, make_sampler
    from tuner.tracking import StudyTracking

    config = prepared.config
    with ray_tune.cluster(config) as dashboard:
        if config.dashboard:
            console.print(f"Ray dashboard: {dashboard}", highlight=False)
        tracking = StudyTracking(prepared)
        store = storage.open_storage(config.storage, config.runs_dir)
        study = _open_study(prepared, store)
        _write_study_file(prepared)
        end_cut_off_trials(study)
        ended = results.ended_trials(results.read_status(study))
        search = MemoryAwareSearch(
            study_name=prepared.name,
            storage=store,
            sampler=make_sampler(config.sampler, config.seed),
            space=prepared.space,
            base=prepared.base,
            study_folder=prepared.folder,
            searches_memory=prepared.searches_memory,
            budget_mib=config.memory_budget_mib,
            first_index=len({t.user_attrs.get("name") for t in study.get_trials(deepcopy=False)} - {None}),
            remaining=config.trials - ended,
            deadline_s=ray_tune.deadline(config),
        )
        if ended < config.trials:
            lines = TrialLines(console, ended, config.trials)
            ray_tune.run_trials(prepared, search, config.trials - ended, [tracking, lines])
        cut_off = end_cut_off_trials(study)
        interrupted = cut_off > 0 or (search.remaining > 0 and search.gave_up is None)
        status = results.read_status(study)
        tracking.close(interrupted, [result.trial for result in status.pareto])
    return StudyOutcome(status, results.complete_trials(study), interrupted, search.gave_up)


def end_cut_off_trials(study: optuna.Study) -> int:
    """Ends trials that are still RUNNING in the storage and asks for them again; returns how many there were.

    For a study that no driver works on: after a kill, or once Ray has stopped.
    """
    cut_off = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.RUNNING]
    for trial in cut_off:
        study._storage.set_trial_user_attr(trial._trial_id, results.INTERRUPTED, True)
        study.tell(trial.number, state=TrialState.FAIL)
        if "name" in trial.user_attrs:
            study.enqueue_trial(trial.params, user_attrs={results.AGAIN: trial.user_attrs["name"]})
    return len(cut_off)


def _open_study(prepared: PreparedStudy, store: optuna.storages.BaseStorage) -> optuna.Study:
    config = prepared.config
    if config.resume:
        study = optuna.load_study(study_name=prepared.name, storage=store)
    else:
        directions = [StudyDirection.MAXIMIZE]
        if prepared.searches_memory:
            directions.append(StudyDirection.MINIMIZE)
        study = optuna.create_study(study_name=prepared.name, storage=store, directions=directions)
        for name, point in prepared.space.baselines.items():
            study.enqueue_trial(dict(point), user_attrs={"baseline": name})
    study.set_user_attr(results.REQUESTED, config.trials)
    for key, value in prepared.identity.items():
        study.set_user_attr(key, value)
    return study


def _write_study_file(prepared: PreparedStudy) -> None:
    """Writes what made the study: command, settings, and the space as it was."""
    prepared.folder.mkdir(parents=True, exist_ok=True)
    config, copy = prepared.config, prepared.folder / f"{prepared.space.name}.yaml"
    content = dataclasses.asdict(config) | {"name": prepared.name, "command": sys.argv, "space": str(copy)}
    # Whole paths: a study may be resumed from another folder.
    if config.data_dir is not None:
        content["data_dir"] = str(Path(config.data_dir).expanduser().resolve())
    content["weights"] = with_whole_path(config.weights)
    if config.lite_weights is not None:
        content["lite_weights"] = with_whole_path(config.lite_weights)
    if not copy.exists():
        shutil.copyfile(space_path(config.space), copy)
    temporary = prepared.folder / (STUDY_FILE + ".tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(prepared.folder / STUDY_FILE)
