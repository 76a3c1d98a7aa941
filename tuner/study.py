"""Running a study: new, or going on with one that was cut off."""

import dataclasses
import json
import logging
import os
import shutil
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState
from rich.console import Console

from search_spaces.space import space_path
from tuner import results, storage
from tuner.config import StudyConfig
from tuner.prepare import PreparedStudy

if TYPE_CHECKING:
    from tuner.tracking import StudyTracking

RAY_SETTINGS = {
    # Ray's own files for each trial and its table in the terminal: the study has its own.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


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
        ended = sum(self.status.trials[state] for state in ("complete", "pruned", "failed"))
        return 1 if ended and ended == self.status.trials["failed"] else 0


def run_study(prepared: PreparedStudy, console: Console) -> StudyOutcome:
    """Runs the trials that a prepared study still lacks, records them, and reads the result.

    Raises:
        ConfigError: where MLflow or a cluster does not answer, before any trial.
    """
    config = prepared.config
    prepared.folder.mkdir(parents=True, exist_ok=True)
    store = storage.open_storage(config.storage, config.runs_dir)
    study = _open_study(prepared, store)
    _reconcile(study)
    status = results.read_status(study)
    ended = sum(status.trials[state] for state in ("complete", "pruned", "failed"))
    if ended >= config.trials:
        return _outcome(study, False, f"it has its {config.trials} trials; ask for more by --trials")
    _write_study_file(prepared)

    from tuner.tracking import StudyTracking

    records = StudyTracking(prepared)
    interrupted, note = _run_trials(prepared, store, study, records, console, ended)
    if _reconcile(study):
        interrupted = True
    outcome = _outcome(study, interrupted, note)
    records.close(interrupted, [result.trial for result in outcome.status.pareto])
    return outcome


def _run_trials(
    prepared: PreparedStudy,
    store: optuna.storages.BaseStorage,
    study: optuna.Study,
    records: "StudyTracking",
    console: Console,
    ended: int,
) -> tuple[bool, str | None]:
    """Hands the study to Ray Tune; returns whether it was interrupted, and why the search ended early."""
    config = prepared.config
    for key, value in RAY_SETTINGS.items():
        os.environ.setdefault(key, value)
    import ray
    from ray import tune
    from ray.tune import CheckpointConfig, FailureConfig, RunConfig

    from tuner.progress import TrialLines
    from tuner.resources import share
    from tuner.search import MemoryAwareSearch, make_sampler
    from tuner.trainable import TinyTLTrainable

    logging.getLogger("ray").setLevel(logging.ERROR)
    context = _start_ray(config)
    try:
        if config.dashboard:
            console.print(f"Ray dashboard: http://{context.dashboard_url}", highlight=False)
        cluster = ray.cluster_resources()
        resources = share(cluster.get("CPU", 1), cluster.get("GPU", 0), config.workers)
        named = sum("name" in trial.user_attrs for trial in study.get_trials(deepcopy=False))
        search = MemoryAwareSearch(
            study_name=prepared.name,
            storage=store,
            sampler=make_sampler(config.sampler, config.seed),
            space=prepared.space,
            base=prepared.base,
            searches_memory=prepared.searches_memory,
            budget_mib=config.memory_budget_mib,
            first_index=named,
            remaining=config.trials - ended,
            deadline_s=None if config.time_budget is None else time.time() + config.time_budget,
        )
        # Test images stay behind: nothing in a search may see them.
        shared = {"data": dataclasses.replace(prepared.data, test=None), "base": prepared.base}
        trainable = tune.with_resources(
            tune.with_parameters(TinyTLTrainable, **shared),
            {"cpu": resources.cpus_per_trial, "gpu": resources.gpus_per_trial},
        )
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=search,
                num_samples=config.trials - ended,
                max_concurrent_trials=resources.workers,
                reuse_actors=True,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=RunConfig(
                name=prepared.name,
                storage_path=str(prepared.folder.parent),
                callbacks=[records, TrialLines(console, ended, config.trials)],
                failure_config=FailureConfig(max_failures=config.max_failures),
                checkpoint_config=CheckpointConfig(checkpoint_frequency=1, num_to_keep=1),
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        except KeyboardInterrupt:
            return True, None
        return False, search.gave_up
    finally:
        ray.shutdown()


def _start_ray(config: StudyConfig) -> Any:
    import ray

    if config.address is not None:
        return ray.init(address=config.address, logging_level=logging.ERROR, log_to_driver=False)
    return ray.init(
        address="local",
        num_cpus=config.workers,
        include_dashboard=config.dashboard,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )


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
    return study


def _reconcile(study: optuna.Study) -> int:
    """Ends trials that were cut off while running and asks for them again; returns how many there were."""
    cut_off = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.RUNNING]
    for trial in cut_off:
        study._storage.set_trial_user_attr(trial._trial_id, results.INTERRUPTED, True)
        study.tell(trial.number, state=TrialState.FAIL)
        if "name" in trial.user_attrs:
            study.enqueue_trial(trial.params, user_attrs={"again": trial.user_attrs["name"]})
    return len(cut_off)


def _write_study_file(prepared: PreparedStudy) -> None:
    """Writes what made the study: command, settings, and the space as it was."""
    content = dataclasses.asdict(prepared.config) | {"name": prepared.name, "command": sys.argv}
    temporary = prepared.folder / (storage.STUDY_FILE + ".tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(prepared.folder / storage.STUDY_FILE)
    shutil.copyfile(space_path(prepared.config.space), prepared.folder / "space.yaml")


def _outcome(study: optuna.Study, interrupted: bool, note: str | None) -> StudyOutcome:
    return StudyOutcome(results.read_status(study), results.complete_trials(study), interrupted, note)


def _trial_name(trial: Any) -> str:
    return str(trial.config["name"])
