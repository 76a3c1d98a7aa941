"""The time of a step: a sum over kinds of operations of time per call, per byte and per multiplication."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tinytl.step_time.operations import Cost, Work, like_kind

Floats = npt.NDArray[np.float64]


class TimedStep(NamedTuple):
    """One real step, as it was measured."""

    operations: Sequence[tuple[Cost, float]]
    """Each with its seconds."""
    work: Work
    seconds: float
    """Of the whole step."""


@dataclass(frozen=True, kw_only=True)
class StepTimes:
    """How much time this machine needs, by kind of operation."""

    per_kind: Mapping[str, tuple[float, float, float]]
    """Seconds per call, per byte and per multiplication."""
    scale: float = 1.0
    """Time of a step over the sum of its operations, timed one by one."""
    per_lean_product: float = 0.0
    """Seconds more for each convolution or product that a lean function calls, for the Python around it."""

    def seconds(self, work: Work) -> float:
        """Returns the estimated time of a step."""
        return self.scale * self.of_operations(work) + self.per_lean_product * work.n_lean

    def of_operations(self, work: Work) -> float:
        """Returns the sum of the times of the operations."""
        total = 0.0
        for kind, sums in work.sums.items():
            like = like_kind(kind, self.per_kind)
            if like is not None:
                total += sum(a * b for a, b in zip(self.per_kind[like], sums, strict=True))
        return total


def fit(steps: Sequence[TimedStep]) -> StepTimes:
    """Returns the times that explain best what was measured, none of them negative."""
    by_kind: dict[str, list[tuple[Cost, float]]] = {}
    for step in steps:
        for cost, seconds in step.operations:
            by_kind.setdefault(cost.kind, []).append((cost, seconds))
    per_kind = {kind: _fit_kind(measured) for kind, measured in by_kind.items()}
    plain = StepTimes(per_kind=per_kind)
    columns = [(plain.of_operations(step.work), step.work.n_lean) for step in steps]
    total = np.array([step.seconds for step in steps])
    scale, per_lean_product = _least_squares(np.array(columns, dtype=float), total, 1 / total)
    return StepTimes(per_kind=per_kind, scale=float(scale), per_lean_product=float(per_lean_product))


def _fit_kind(measured: Sequence[tuple[Cost, float]]) -> tuple[float, float, float]:
    columns = np.array([(1, cost.n_bytes, cost.n_products) for cost, _ in measured], dtype=float)
    seconds = np.array([seconds for _, seconds in measured])
    # Between equal seconds, in which large operations decide alone, and equal parts, in which small ones do.
    made = _least_squares(columns, seconds, 1 / np.sqrt(seconds * seconds.mean()))
    return float(made[0]), float(made[1]), float(made[2])


def _least_squares(columns: Floats, target: Floats, weights: Floats) -> Floats:
    """Returns the factors, none negative, with which weighted columns add up to the target."""
    scales = columns.max(axis=0)
    rows = columns / np.where(scales > 0, scales, 1) * weights[:, None]
    goal = target * weights
    best = np.zeros(columns.shape[1])
    least = float(goal @ goal)
    for size in range(1, columns.shape[1] + 1):  # three columns: each choice of those that count
        for chosen in map(list, itertools.combinations(range(columns.shape[1]), size)):
            found = np.linalg.lstsq(rows[:, chosen], goal, rcond=None)[0]
            rest = goal - rows[:, chosen] @ found
            if (found >= 0).all() and float(rest @ rest) < least:
                least = float(rest @ rest)
                best = np.zeros(columns.shape[1])
                best[chosen] = found
    return best / np.where(scales > 0, scales, 1)
