"""Ray's part of a study: a cluster, started or joined, and the trials on it."""

import dataclasses
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray import tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig

from tinytl.errors import ConfigError
from tuner.config import StudyConfig
from tuner.prepare import PreparedStudy
from tuner.resources import share
from tuner.search import MemoryAwareSearch
from tuner.trainable import TinyTLTrainable

SETTINGS = {
    # Ray's own files for each trial and its tables in the terminal: the study has its own.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    # A trial that failed has no metrics, and says why.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # The search's state is in Optuna's storage; Ray's snapshots of it need not be fresh, nor talked of.
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


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


def run_trials(
    prepared: PreparedStudy, search: MemoryAwareSearch, count: int, callbacks: Sequence[Callback]
) -> None:
    """Trains up to `count` configurations that `search` suggests; returns when all ended, or on Ctrl-C."""
    config = prepared.config
    available = ray.cluster_resources()
    resources = share(available.get("CPU", 1), available.get("GPU", 0), config.workers)
    # Test images stay behind: nothing in a search may see them.
    data = dataclasses.replace(prepared.data, test=None)
    trainable = tune.with_resources(
        tune.with_parameters(TinyTLTrainable, data=data, base=prepared.base, weights=prepared.weights),
        {"cpu": resources.cpus_per_trial, "gpu": resources.gpus_per_trial},
    )
    tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=search,
            num_samples=count,
            max_concurrent_trials=resources.workers,
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=RunConfig(
            name=prepared.name,
            storage_path=str(prepared.folder.parent),
            callbacks=list(callbacks),
            failure_config=FailureConfig(max_failures=config.max_failures),
            checkpoint_config=CheckpointConfig(checkpoint_frequency=1, num_to_keep=1),
            verbose=0,
        ),
    ).fit()


def deadline(config: StudyConfig) -> float | None:
    """Returns when no further trial may start, in seconds of `time.time()`."""
    return None if config.time_budget is None else time.time() + config.time_budget


def _trial_name(trial: Any) -> str:
    return str(trial.config["name"])
