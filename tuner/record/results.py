"""Fronts, their hypervolume, and the best of some trials. Imports neither torch nor ray."""

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.record.trials import Trial


@dataclass(frozen=True, kw_only=True)
class Hypervolume:
    """The area that a front dominates, between it and the reference point: accuracy 0 in `reference_mib`."""

    accuracy_mib: float
    """Accuracy (a fraction) x MiB."""
    reference_mib: float
    """The memory budget if there is one, else the largest peak memory of the complete trials."""
    fraction: float
    """Share, 0 to 1, of the area that a trial with accuracy 1 in 0 MiB would dominate."""


def pareto_front(results: Sequence[Trial], cost: str = "peak_memory_mib") -> list[Trial]:
    """Returns the results that no other beats in both accuracy and `cost`, by rising cost.

    Of several with equal accuracy and cost, the first stays. `cost`: an attribute of trials that all have.
    """
    front: list[Trial] = []
    for result in sorted(results, key=lambda r: (getattr(r, cost), -r.score)):
        if not front or result.score > front[-1].score:
            front.append(result)
    return front


def hypervolume(results: Sequence[Trial], budget_mib: float | None) -> Hypervolume | None:
    """Returns the hypervolume of the front of `results`, or None if there are none.

    Measured from accuracy 0 and `budget_mib`, or, without a budget, from the largest peak memory among
    `results`: fractions under one budget can be compared, those without a budget only roughly.
    """
    if not results:
        return None
    reference_mib = max(r.peak_memory_mib for r in results) if budget_mib is None else budget_mib
    area = best = 0.0
    for result in pareto_front(results):
        width = max(0.0, reference_mib - result.peak_memory_mib)
        area += width * (result.score - best)
        best = result.score
    return Hypervolume(accuracy_mib=area, reference_mib=reference_mib, fraction=area / reference_mib)


def within(peak_memory_mib: float, budget_mib: float | None) -> bool:
    """Whether a peak fits the budget; any peak does if there is no budget."""
    return budget_mib is None or peak_memory_mib <= budget_mib


def best_under(results: Sequence[Trial], budget_mib: float | None) -> Trial | None:
    """Returns the most accurate result in the budget (None: any), of equals the one with the least memory."""
    fitting = [r for r in results if within(r.peak_memory_mib, budget_mib)]
    return max(fitting, key=lambda r: (r.score, -r.peak_memory_mib), default=None)


def best_confirmed(results: Sequence[Trial], budget_mib: float | None) -> Trial | None:
    """Returns the result with the best mean accuracy over seeds within the budget (None: any).

    Only trials that were trained again count, each by the mean of its seeds that ended. A seed that failed is
    no accuracy, so it decides between equals alone; who reads the best is told of it.
    """
    fitting = [
        ((t.confirmed.mean, not t.confirmed.failures, -t.peak_memory_mib), t)
        for t in results
        if t.confirmed is not None and within(t.peak_memory_mib, budget_mib)
    ]
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else None
