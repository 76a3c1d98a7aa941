"""What the sampler sees of a study: an Optuna study in memory, in which a refused candidate costs nothing.

The record (`tuner/record/writer.py`) says what happened; this is what each sampler learns from best:

| | tpe | gp, nsga2 | random, qmc |
|---|---|---|---|
| over the budget | bad, worse the more it is over | nothing: they learn from complete trials only | nothing |
| ran before | nothing | nothing | nothing |
| stopped at a rung | bad | complete, with the accuracy that it had there | nothing |
| running | bad until it ends, so that no two search in one place | a place to avoid (gp) | nothing |

Without a budget the sampler seeks more accuracy and less memory. With one it seeks accuracy alone: memory
below the budget is worth nothing more. So no trial is spent on the small end of a front that was not asked
for; the record keeps each trial's memory, and every view still shows the front.

After several refusals in a row a candidate is random: GP learns nothing from a refusal, and would propose
the same place for ever.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from search_spaces.space import SearchSpace
from tuner.record import schema
from tuner.verbosity import apply_verbosity

REFUSED_BEFORE_RANDOM = 8
"""After this many refusals in a row candidates are drawn at random until one is accepted."""
LEARNS_FROM_COMPLETE_ONLY = ("gp", "nsga2")


def make_sampler(name: str, seed: int) -> BaseSampler:
    """Returns Optuna's sampler of that name, seeded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "tpe":
            # Multivariate: parameters are sampled jointly. Groups: the space has conditions.
            return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
        if name == "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed)
        if name == "gp":
            return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
        if name == "qmc":
            return optuna.samplers.QMCSampler(seed=seed, warn_independent_sampling=False)
        return optuna.samplers.RandomSampler(seed=seed)


class Proposals:
    """Proposes configurations, and learns what became of each.

    Accuracies are fractions, memory is in MiB. The same seed and the same answers give the same proposals.
    """

    def __init__(
        self,
        *,
        sampler: str,
        seed: int,
        space: SearchSpace,
        searches_memory: bool,
        budget_mib: float | None = None,
    ) -> None:
        apply_verbosity()
        self.space = space
        # Under a budget, memory is worth nothing more: the sampler seeks accuracy alone.
        self.seeks_less_memory = searches_memory and budget_mib is None
        self._only_complete = sampler in LEARNS_FROM_COMPLETE_ONLY
        self._sampler = make_sampler(sampler, seed)
        # Another seed: with the same one it would draw what a random sampler has already drawn.
        self._random = optuna.samplers.RandomSampler(seed=seed + 1)
        directions = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE][: 1 + self.seeks_less_memory]
        self._study = optuna.create_study(directions=directions, sampler=self._sampler)
        self._trials: dict[int, optuna.Trial] = {}
        self._refused = 0

    def propose(self) -> tuple[int, dict[str, Any]]:
        """Returns a candidate's number and its whole configuration, fixed values included."""
        stuck = self._refused >= REFUSED_BEFORE_RANDOM
        self._study.sampler = self._random if stuck else self._sampler
        return self._ask()

    def adopt(self, params: Mapping[str, Any]) -> int:
        """Makes a candidate of searched values that were not proposed here; returns its number."""
        self._study.enqueue_trial(dict(params))
        return self._ask()[0]

    def params(self, number: int) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        """Returns a candidate's searched values and their distributions."""
        trial = self._trials[number]
        return trial.params, trial.distributions

    def reject(self, number: int) -> None:
        """Records that a candidate has run before: there is nothing to learn from it."""
        self._refused += 1
        self._study.tell(self._trials.pop(number), state=TrialState.FAIL)

    def infeasible(self, number: int, peak_memory_mib: float, budget_mib: float) -> None:
        """Records that a candidate exceeds the budget."""
        self._refused += 1
        trial = self._trials.pop(number)
        trial.set_constraint(schema.CONSTRAINT, peak_memory_mib - budget_mib)
        self._study.tell(trial, state=TrialState.FAIL if self._only_complete else TrialState.PRUNED)

    def start(self, number: int) -> None:
        """Records that a candidate runs."""
        self._refused = 0

    def complete(self, number: int, accuracy: float, peak_memory_mib: float) -> None:
        """Records what a trial reached with all its epochs."""
        self._study.tell(self._trials.pop(number), self.objectives(accuracy, peak_memory_mib))

    def stopped(self, number: int, accuracy: float, peak_memory_mib: float) -> None:
        """Records that a trial was stopped at a rung, with `accuracy` there."""
        trial = self._trials.pop(number)
        if self._only_complete:
            self._study.tell(trial, self.objectives(accuracy, peak_memory_mib))
        else:
            self._study.tell(trial, state=TrialState.PRUNED)

    def failed(self, number: int) -> None:
        """Records that a trial gave no result."""
        self._study.tell(self._trials.pop(number), state=TrialState.FAIL)

    def remember(self, trial: FrozenTrial, accuracy: float | None, peak_memory_mib: float) -> None:
        """Adds an ended trial of the study's record: complete, stopped at a rung, or over the budget.

        `accuracy` is that of the end or of the rung, None for one that never ran.
        """
        seen = create_trial(
            state=TrialState.PRUNED,
            params=trial.params,
            distributions=trial.distributions,
            constraints=trial.constraints,
        )
        if accuracy is not None and (trial.state == TrialState.COMPLETE or self._only_complete):
            seen.state, seen.values = TrialState.COMPLETE, self.objectives(accuracy, peak_memory_mib)
        elif self._only_complete:
            return
        self._study.add_trial(seen)

    def objectives(self, accuracy: float, peak_memory_mib: float) -> list[float]:
        """Returns what the sampler optimises, in Optuna's order."""
        return [accuracy, peak_memory_mib] if self.seeks_less_memory else [accuracy]

    def _ask(self) -> tuple[int, dict[str, Any]]:
        trial = self._study.ask()
        values = self.space.sample_trial(trial)
        self._trials[trial.number] = trial
        return trial.number, values
