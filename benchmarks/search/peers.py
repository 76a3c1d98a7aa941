"""The searches that ours is compared with, each as its own project ships it, for `simulated`."""

import sys
import warnings
from collections.abc import Hashable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from ray.tune.search.optuna import OptunaSearch

from benchmarks.shared.places import ROOT
from search_spaces.space import SearchSpace
from tinytl.errors import ConfigError

PEERS = ROOT / "build" / "peers"
"""The folder where benchmarks/search/peers.txt was installed."""
GRACE_EPOCHS, REDUCTION_FACTOR = 1, 3


class RaySearch:
    """Ray's OptunaSearch, every trial trained to its end; `sampler` None is its default, TPE."""

    def __init__(
        self, space: SearchSpace, seed: int, sampler: optuna.samplers.BaseSampler | None = None
    ) -> None:
        def define(trial: optuna.Trial) -> None:
            space.sample_trial(trial)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.search = OptunaSearch(
                space=define, metric=["accuracy", "memory"], mode=["max", "min"], sampler=sampler, seed=seed
            )
        self.fixed = space.fixed
        self.count = 0

    def next_trial(self) -> tuple[Hashable, Mapping[str, Any]]:
        """Asks Ray's searcher."""
        trial = f"trial-{self.count}"
        self.count += 1
        return trial, dict(self.fixed) | self.search.suggest(trial)

    def goes_on(self, trial: Hashable, epoch: int, accuracy: float, memory_mib: float) -> bool:
        """Always: Ray has no scheduler for two objectives."""
        return True

    def finished(self, trial: Hashable, accuracy: float, memory_mib: float) -> None:
        """Reports the trial to Ray's searcher."""
        self.search.on_trial_complete(str(trial), {"accuracy": accuracy, "memory": memory_mib})


class Moasha:
    """Syne Tune's MOASHA with its random search: error and memory judged together at epochs 1, 3, ...

    `mended`: its sort returns indices in order of rank, but uses them as the ranks themselves. If mended,
    each trial has its own rank.
    """

    def __init__(self, space: SearchSpace, seed: int, epochs: int, *, mended: bool = False) -> None:
        choice, moasha, priority = _syne_tune()

        class Ranks(priority):
            def priority_unsafe(self, objectives: np.ndarray) -> np.ndarray:
                return np.argsort(super().priority_unsafe(objectives))

        self.space = space
        self.scheduler = moasha(
            {p.name: choice(list(p.distribution.choices)) for p in space.parameters},
            metrics=["error", "memory"],
            time_attr="epoch",
            multiobjective_priority=Ranks() if mended else None,
            max_t=epochs,
            grace_period=GRACE_EPOCHS,
            reduction_factor=REDUCTION_FACTOR,
            random_seed=seed,
        )
        self.count = 0
        np.random.seed(seed)  # its search space draws from the global generator

    def next_trial(self) -> tuple[Hashable, Mapping[str, Any]]:
        """Asks the scheduler; keeps only the values of its flat draw that exist beside the others."""
        drawn = self.scheduler.suggest().config
        trial = SimpleNamespace(trial_id=self.count)
        self.scheduler.on_trial_add(trial)
        self.count += 1
        return trial.trial_id, self.space.sample(lambda parameter: drawn[parameter.name])

    def goes_on(self, trial: Hashable, epoch: int, accuracy: float, memory_mib: float) -> bool:
        """Asks the scheduler."""
        return self._report(trial, epoch, accuracy, memory_mib) == "CONTINUE"

    def finished(self, trial: Hashable, accuracy: float, memory_mib: float) -> None:
        """Does nothing: the scheduler has no rung at the last epoch, and its search does not learn."""

    def _report(self, trial: Hashable, epoch: int, accuracy: float, memory_mib: float) -> str:
        result = {"epoch": epoch, "error": 1 - accuracy, "memory": memory_mib}
        return self.scheduler.on_trial_result(SimpleNamespace(trial_id=trial), result)


def check_peers() -> None:
    """Checks that Syne Tune is installed.

    Raises:
        ConfigError: if it is not.
    """
    if not (PEERS / "syne_tune").is_dir():
        raise ConfigError(f"syne-tune is not in {PEERS}: run 'make peers'")


def _syne_tune() -> tuple[Any, Any, Any]:
    check_peers()
    if str(PEERS) not in sys.path:
        sys.path.append(str(PEERS))
    from syne_tune.config_space import choice
    from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA
    from syne_tune.optimizer.schedulers.multiobjective.multiobjective_priority import NonDominatedPriority

    return choice, MOASHA, NonDominatedPriority
