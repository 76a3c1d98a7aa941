"""Ray Tune's part of a study: the trials on a running cluster."""

import dataclasses
import shutil
from collections.abc import Sequence
from typing import Any

from ray import tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig
from ray.tune.execution import class_cache

from tuner.cluster.resources import TrialResources
from tuner.prepared import PreparedStudy
from tuner.search.scheduler import StudyScheduler
from tuner.search.searcher import MemoryAwareSearch, Observer
from tuner.trial.system_metrics import is_asked_for
from tuner.trial.trainable import TinyTLTrainable
from tuner.trial.worker_death import every_death_counts

RAY_FOLDER = "ray"
"""In the study's folder: what Ray writes while it runs. It is not needed afterwards."""


def run_trials(
    prepared: PreparedStudy,
    search: MemoryAwareSearch,
    scheduler: StudyScheduler,
    resources: TrialResources,
    trainable: type[tune.Trainable] = TinyTLTrainable,
) -> None:
    """Trains what `search` suggests; returns when all trials ended, or on a stop when their epochs ended.

    Raises:
        KeyboardInterrupt: if the user does not wait for the epochs' ends.
    """
    # Test images are left out: nothing in a search may see them.
    data = dataclasses.replace(prepared.data, test=None)
    config = prepared.config
    recorders = {"tensorboard": config.tensorboard, "system_metrics": is_asked_for(config.system_metrics)}
    asked = {name: True for name, wanted in recorders.items() if wanted}
    with_data = tune.with_parameters(trainable, data=data, weights=prepared.weights, **asked)
    folder = prepared.folder / RAY_FOLDER
    try:
        tuner = tune.Tuner(
            tune.with_resources(with_data, resources.for_ray),
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
                progress_reporter=tune.CLIReporter(),  # in a notebook Ray's own would clear the cell
            ),
        )
        # Tune gives its actors their own environment, for PyTorch Lightning. Without it they use the
        # processes that Ray has already started.
        class_cache.DEFAULT_ENV_VARS.clear()
        with every_death_counts():
            tuner.fit()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Epochs(Callback):
    """Reports each epoch to what follows the study."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        super().__init__()
        self.observers = observers

    def __getstate__(self) -> dict[str, Any]:
        """Returns nothing: Ray pickles callbacks with its own state, which a study never restores."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Makes Ray's dashboard name the trial at its epochs: its process may have had others before."""
        actor = trial.temporary_state.ray_actor
        vars(actor).pop("train", None)  # which has the name of the trial before
        actor.train = actor.train.options(name=_trial_name(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Passes the epoch on."""
        if "row" in result:
            for observer in self.observers:
                observer.epoch_ended(trial.config["name"], result["row"])


def _trial_name(trial: Any) -> str:
    return str(trial.config["name"])
