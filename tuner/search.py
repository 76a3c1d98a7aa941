"""Asking Optuna through Ray's OptunaSearch: what cannot fit is told infeasible and never starts."""

import time
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search.optuna import OptunaSearch
from ray.tune.search.searcher import Searcher

from search_spaces.space import SearchSpace
from tinytl.config import TrainConfig
from tinytl.errors import ConfigError
from tinytl.memory import predict_memory, resolve_plan
from tinytl.planner import PLANNED_FIELDS
from tuner.results import AGAIN
from tuner.trainable import CHECKPOINT_FILE
from tuner.trial_config import trial_config

INFEASIBLE_IN_A_ROW = 500
"""The search ends where so many configurations in a row exceed the budget."""
CONSTRAINT = "memory_budget_mib"
"""Name of Optuna's constraint: the predicted peak minus the budget, feasible at 0 or below."""


def make_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """Returns Optuna's sampler of that name, seeded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "tpe":
            # Joint in all parameters that exist together; the space has conditions, hence groups.
            return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
        if name == "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed)
        if name == "gp":
            return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
        if name == "qmc":
            return optuna.samplers.QMCSampler(seed=seed, warn_independent_sampling=False)
        return optuna.samplers.RandomSampler(seed=seed)


class MemoryAwareSearch(OptunaSearch):
    """OptunaSearch that knows what a configuration takes before it starts.

    Each suggestion is `{"name", "values", "peak_memory_mib", "checkpoint"}`; a trial that was
    cut off keeps its name and goes on from its last checkpoint. A configuration over the budget is told to
    Optuna as infeasible (state PRUNED, a constraint above 0, its memory recorded), and another is asked for.
    Ends after `remaining` suggestions, or once `deadline_s` (of `time.time()`) is past.
    """

    def __init__(
        self,
        *,
        study_name: str,
        storage: optuna.storages.BaseStorage,
        sampler: optuna.samplers.BaseSampler,
        space: SearchSpace,
        base: TrainConfig,
        study_folder: Path,
        searches_memory: bool,
        budget_mib: float | None,
        first_index: int,
        remaining: int,
        deadline_s: float | None,
    ) -> None:
        self.search_space = space
        self.base = base
        self.study_folder = study_folder
        self.budget_mib = budget_mib
        self.next_index = first_index
        self.remaining = remaining
        self.deadline_s = deadline_s
        self.gave_up: str | None = None
        """Why the search ended before its number of trials, if it did."""
        super().__init__(
            space=space.sample_trial,
            metric=["accuracy_top1", "peak_memory_mib"] if searches_memory else "accuracy_top1",
            mode=["max", "min"] if searches_memory else "max",
            sampler=sampler,
            study_name=study_name,
            storage=storage,
        )

    @property
    def study(self) -> optuna.Study:
        """The Optuna study behind the search."""
        assert self._ot_study is not None
        return self._ot_study

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Returns the next configuration that fits the budget, or Ray's FINISHED."""
        if self.remaining <= 0:
            return Searcher.FINISHED
        if self.deadline_s is not None and time.time() >= self.deadline_s:
            self.gave_up = "the time budget is spent"
            return Searcher.FINISHED
        for _ in range(INFEASIBLE_IN_A_ROW):
            trial = self.study.ask()
            values = self.search_space.sample_trial(trial)
            suggestion = self._accept(trial, values)
            if suggestion is not None:
                self._ot_trials[trial_id] = trial
                return suggestion
        self.gave_up = f"{INFEASIBLE_IN_A_ROW} configurations in a row exceeded the memory budget"
        return Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tells Optuna how a trial ended: COMPLETE only with all its epochs, else FAIL with the reason."""
        trial = self._ot_trials.pop(trial_id, None)
        if trial is None:
            return
        failure = (result or {}).get("failure")
        if error or failure or not result:
            trial.set_user_attr("failure", failure or "the trial's process died")
            self.study.tell(trial, state=TrialState.FAIL)
            return
        if not result.get("finished"):
            return  # Ray was stopped in the middle: the trial stays RUNNING and is told as interrupted
        for key in ("epoch_time_s", "measured_peak_mib"):
            trial.set_user_attr(key, result.get(key))
        metrics = self.metric if isinstance(self.metric, list) else [self.metric]
        self.study.tell(trial, [result[metric] for metric in metrics])

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keeps Optuna out of the epochs: it learns of a trial when it ends."""

    def save(self, checkpoint_path: str) -> None:
        """Writes nothing of use: the state of a search is in Optuna's storage, and Ray never restores it."""
        Path(checkpoint_path).write_bytes(b"")

    def _accept(self, trial: optuna.Trial, values: dict[str, Any]) -> dict[str, Any] | None:
        try:
            planned = resolve_plan(trial_config(self.base, values))
            peak_mib = predict_memory(planned).peak_mib
        except ConfigError as error:
            # A combination that the checks at the start did not draw: infeasible, with the reason kept.
            trial.set_user_attr("infeasible", str(error))
            self.study.tell(trial, state=TrialState.PRUNED)
            return None
        trial.set_user_attr("peak_memory_mib", peak_mib)
        if self.budget_mib is not None:
            trial.set_constraint(CONSTRAINT, peak_mib - self.budget_mib)
            if peak_mib > self.budget_mib:
                trial.set_user_attr("infeasible", f"{peak_mib:.1f} MiB exceed the budget")
                self.study.tell(trial, state=TrialState.PRUNED)
                return None
        name, checkpoint = trial.user_attrs.get(AGAIN), None
        if name is None:
            name = f"{self.search_space.name}-{self.next_index:03d}"
            self.next_index += 1
        else:
            checkpoint = _last_checkpoint(self.study_folder / name)
        self.remaining -= 1
        trial.set_user_attr("name", name)
        return {
            "name": name,
            # With what the plan chose: workers need not predict again, and MLflow records it.
            "values": values | {name: getattr(planned, name) for name in PLANNED_FIELDS},
            "peak_memory_mib": peak_mib,
            "checkpoint": None if checkpoint is None else str(checkpoint),
        }


def _last_checkpoint(trial_folder: Path) -> Path | None:
    """Returns the newest whole checkpoint of a trial, or None.

    By time, not by name: Ray counts checkpoints anew each time that a trial goes on.
    """
    written = list(trial_folder.glob(f"checkpoint_*/{CHECKPOINT_FILE}"))
    return max(written, key=lambda path: path.stat().st_mtime_ns).parent if written else None
