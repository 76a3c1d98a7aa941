"""Ray's part of a study: a cluster, started or joined, and the trials on it."""

import dataclasses
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray import tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig

from tinytl.errors import ConfigError
from tuner.config import StudyConfig
from tuner.prepare import PreparedStudy
from tuner.resources import TrialResources, share
from tuner.scheduler import StudyScheduler
from tuner.search import MemoryAwareSearch, Observer
from tuner.trainable import TinyTLTrainable

SETTINGS = {
    # Ray's own files for each trial and its tables in the terminal: the study has its own.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    # A trial that failed has no metrics, and says why.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # Ctrl-C and SIGTERM are the study's.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # A study goes on from its records: Ray need not write its own state while trials run.
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
RAY_FOLDER = "ray"
"""In the study's folder: what Ray writes while it runs. Nobody needs it afterwards."""


@contextmanager
def cluster(config: StudyConfig) -> Iterator[str]:
    """Starts Ray here, or joins the cluster at `config.address`; yields the dashboard's address.

    Raises:
        ConfigError: where the cluster does not answer.
    """
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    # What goes wrong in a trial is told by the study, in a line.
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    try:
        context = ray.init(
            address=config.address or "local",
            num_cpus=None if config.address else config.workers,
            include_dashboard=None if config.address else config.dashboard,
            logging_level=logging.CRITICAL,
            log_to_driver=False,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        if config.address is None:
            raise
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"--address {config.address}: no Ray cluster answers there ({reason})") from None
    try:
        yield f"http://{context.dashboard_url}" if context.dashboard_url else ""
    finally:
        ray.shutdown()


def trial_resources(prepared: PreparedStudy) -> TrialResources:
    """Returns what each trial is given of the cluster that was started or joined."""
    available = ray.cluster_resources()
    return share(available.get("CPU", 1), available.get("GPU", 0), prepared.config.workers)


def run_trials(
    prepared: PreparedStudy,
    search: MemoryAwareSearch,
    scheduler: StudyScheduler,
    resources: TrialResources,
    trainable: type[tune.Trainable] = TinyTLTrainable,
) -> None:
    """Trains what `search` suggests; returns when all has ended, or each trial at its epoch's end on a stop.

    Raises:
        KeyboardInterrupt: where the user would not wait for the epochs' ends.
    """
    # Test images stay behind: nothing in a search may see them.
    data = dataclasses.replace(prepared.data, test=None)
    with_data = tune.with_parameters(trainable, data=data, base=prepared.base, weights=prepared.weights)
    folder = prepared.folder / RAY_FOLDER
    try:
        tune.Tuner(
            tune.with_resources(
                with_data, {"cpu": resources.cpus_per_trial, "gpu": resources.gpus_per_trial}
            ),
            tune_config=tune.TuneConfig(
                search_alg=search,
                scheduler=scheduler,
                num_samples=-1,  # the search knows when it is done
                max_concurrent_trials=resources.workers,
                reuse_actors=True,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=RunConfig(
                name=folder.name,
                storage_path=str(folder.parent),
                callbacks=[_Epochs(search.observers)],
                failure_config=FailureConfig(max_failures=prepared.config.max_failures),
                # The trainable saves each epoch itself, before it reports it.
                checkpoint_config=CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                verbose=0,
            ),
        ).fit()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Epochs(Callback):
    """Tells those who follow the study of each epoch."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        super().__init__()
        self.observers = observers

    def __getstate__(self) -> dict[str, Any]:
        """Ray pickles its callbacks beside its own state, which a study never goes back to."""
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Passes the epoch on."""
        if "row" in result:
            for observer in self.observers:
                observer.epoch_ended(trial.config["name"], result["row"])


def _trial_name(trial: Any) -> str:
    return str(trial.config["name"])
