"""How much each searched parameter decides accuracy and memory. Imports neither torch nor ray."""

import hashlib
import heapq
import math
import random
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from tinytl.config.names import FIELDS_WITHOUT_MEMORY
from tuner.record.reading import StudyReading
from tuner.record.trials import Trial

MIN_TRIALS = 4
"""With fewer complete trials there is nothing to compare."""
MOST_TRIALS = 100
"""Of more complete trials so many are looked at: a share is known to about a tenth by then, and the time of a
fit grows faster than the trials (0.8 s for 100, 8 s for 500)."""
RESAMPLES = 8
"""So many times the trials are drawn anew from themselves, to see how far shares move."""
TREES, TREES_OF_RESAMPLES = 32, 8
"""A spread of eight shares is rough: each needs fewer trees than the share itself. More trees would need more
time and say no more: against six times as many, the share that is furthest off is 0.02 off in the mean of
eight fits to 100 trials, where the largest spread is 0.02 to 0.12; with 64 and 16 trees it was 0.01."""
ABSENT = "absent"
"""Stands for a parameter that a trial does not have, because of its method or norm."""


class Importance(NamedTuple):
    """How much each parameter decides an objective, largest first."""

    shares: dict[str, float]
    """Of the variance over the complete trials; they add up to 1."""
    spread: dict[str, float]
    """Standard deviation of each share over other draws of as many of these trials (bootstrap). Among few
    trials it is as large as the shares: then they are chance."""


def parameter_importance(study: StudyReading) -> dict[str, Importance] | None:
    """Returns each parameter's share of the variance over the complete trials, with its uncertainty, by
    objective.

    Objectives are the study's metric and, if memory is one, `peak_memory_mib`, by its logarithm. Memory has
    shares only for parameters that can change it. An objective that is the same in all trials has none.
    Returns None with fewer than MIN_TRIALS complete trials; of more than MOST_TRIALS, some are `looked_at`.

    fANOVA, with a value of its own for a parameter that a trial does not have: Optuna's evaluator leaves
    such parameters out. PED-ANOVA, which keeps them, gave half of the memory of 32 trials to parameters
    that have no effect on it; this gave them a twelfth.
    """
    complete = looked_at(study)
    if len(complete) < MIN_TRIALS:
        return None
    found = {study.metric: _importance(complete, lambda trial: trial.score, lambda name: True)}
    if study.searches_memory:
        found["peak_memory_mib"] = _importance(
            complete, lambda trial: math.log(trial.peak_memory_mib), _changes_memory
        )
    return found


def looked_at(study: StudyReading) -> list[Trial]:
    """Returns the complete trials, or of more than MOST_TRIALS that many, as good as drawn at random.

    A digest of its name says whether a trial is drawn. So one more trial among thousands seldom changes which
    ones are, and then by one.
    """
    if len(study.complete) <= MOST_TRIALS:
        return study.complete
    drawn = heapq.nsmallest(MOST_TRIALS, study.complete, key=lambda trial: _lot(trial.name))
    names = {trial.name for trial in drawn}
    return [trial for trial in study.complete if trial.name in names]


def _lot(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _importance(
    trials: Sequence[Trial], target: Callable[[Trial], float], judged: Callable[[str], bool]
) -> Importance:
    shares = _shares(trials, target, judged, TREES)
    rng = random.Random(0)
    resamples = [rng.choices(trials, k=len(trials)) for _ in range(RESAMPLES)]
    drawn = [_shares(resample, target, judged, TREES_OF_RESAMPLES) for resample in resamples]
    spread = {name: statistics.pstdev([other.get(name, 0.0) for other in drawn]) for name in shares}
    return Importance(shares, spread)


def _changes_memory(name: str) -> bool:
    return name not in FIELDS_WITHOUT_MEMORY and not name.startswith("lr_ratio.")


def _shares(
    trials: Sequence[Trial], target: Callable[[Trial], float], judged: Callable[[str], bool], trees: int
) -> dict[str, float]:
    # Imports scikit-learn's forests, which needs seconds: not every status needs them.
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    values = [target(trial) for trial in trials]
    columns = {}
    for name in sorted({name for trial in trials for name in trial.params if judged(name)}):
        column = _column(name, trials)
        if column is not None:
            columns[name] = column
    if len(set(values)) == 1 or not columns:
        return {}
    whole = optuna.create_study()
    for index, value in enumerate(values):
        whole.add_trial(
            optuna.create_trial(
                value=value,
                params={name: filled[index] for name, (filled, _) in columns.items()},
                distributions={name: distribution for name, (_, distribution) in columns.items()},
            )
        )
    shares = get_param_importances(whole, evaluator=FanovaImportanceEvaluator(n_trees=trees, seed=0))
    return {name: float(share) for name, share in shares.items()}


def _column(name: str, trials: Sequence[Trial]) -> tuple[list[Any], BaseDistribution] | None:
    """Returns a parameter's value in every trial and their distribution; None if it is always the same."""
    known = [trial.params[name] for trial in trials if name in trial.params]
    if len(set(known)) == 1:
        return None
    distribution = next(t.distributions[name] for t in trials if name in t.params)
    if isinstance(distribution, CategoricalDistribution):
        filled = [trial.params.get(name, ABSENT) for trial in trials]
        return filled, CategoricalDistribution(sorted(set(filled), key=str))
    middle = statistics.median_low(known)
    log = bool(getattr(distribution, "log", False))
    filled = [float(trial.params.get(name, middle)) for trial in trials]
    return filled, FloatDistribution(float(min(known)), float(max(known)), log=log)
