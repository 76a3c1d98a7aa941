"""The values of a searched parameter: choices, or a range of numbers, as a file describes them.

Imports optuna only to sample.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Scalar = str | int | float | bool | None
STEP_TOLERANCE = 1e-8
"""How far a value may be from a step, as a part of it: room for rounding."""


class SpaceError(ValueError):
    """A mistake in a search space: file, place, what is wrong, what to do."""


@dataclass(frozen=True)
class Choices:
    """Plain values to choose from."""

    choices: tuple[Scalar, ...]

    def contains(self, value: Any) -> bool:
        """Whether `value` is one of them; 1 equals neither true nor 1.0."""
        return any(value == choice and type(value) is type(choice) for choice in self.choices)

    def describe(self) -> str:
        """Returns the choices as a reader would write them."""
        return ", ".join("none" if choice is None else str(choice) for choice in self.choices)

    def distribution(self) -> BaseDistribution:
        """Returns what Optuna samples from."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.choices)


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    log: bool = False
    """Whether equal ratios, not equal differences, are equally likely."""
    step: float | None = None
    """Distance of neighbouring values. None: any value."""

    @property
    def whole(self) -> bool:
        """Whether its values are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def contains(self, value: Any) -> bool:
        """Whether `value` is a number of the range that the step reaches."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        return self.low <= value <= self.high and abs(steps - round(steps)) < STEP_TOLERANCE

    def describe(self) -> str:
        """Returns the range as a reader would write it."""
        step = f", step {self.step:g}" if self.step not in (None, 1) else ""
        return f"{self.low:g} to {self.high:g}{step}{', log scale' if self.log else ''}"

    def distribution(self) -> BaseDistribution:
        """Returns what Optuna samples from."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)


Values: TypeAlias = Choices | Range


def read_values(raw: Mapping[str, Any], place: str) -> Values:
    """Returns the values that a parameter's keys describe.

    Raises:
        SpaceError: naming `place` and what is wrong.
    """
    if "choices" in raw:
        choices = raw["choices"]
        if not isinstance(choices, list) or not choices:
            raise SpaceError(f"{place}: choices must be a list with one value or more")
        if not all(choice is None or isinstance(choice, (str, int, float)) for choice in choices):
            raise SpaceError(f"{place}: choices must be plain values")
        return Choices(tuple(choices))
    for key in ("low", "high"):
        if key not in raw:
            raise SpaceError(f"{place}: {key} is missing; give low and high, or choices")
        _check_number(raw[key], f"{place}: {key}")
    low, high, log, step = raw["low"], raw["high"], raw.get("log", False), raw.get("step")
    if low >= high:
        raise SpaceError(f"{place}: low {low} is not below high {high}; swap them, or fix the value")
    if not isinstance(log, bool):
        raise SpaceError(f"{place}: log: {log!r} is neither true nor false")
    if log and low <= 0:
        raise SpaceError(f"{place}: low {low} with log: true; a logarithm needs a low above 0")
    if step is not None:
        _check_number(step, f"{place}: step")
        if step <= 0:
            raise SpaceError(f"{place}: step {step} is not above 0")
    whole = isinstance(low, int) and isinstance(high, int)
    if whole:
        step = 1 if step is None else step
        if not isinstance(step, int) or (high - low) % step:
            raise SpaceError(f"{place}: high {high} is not low {low} plus a multiple of step {step}")
    if log and step is not None and not (whole and step == 1):
        raise SpaceError(f"{place}: step {step} with log: true; leave out one of them")
    if not whole and step is not None:
        exact = [Decimal(str(number)) for number in (low, high, step)]
        high = float(exact[0] + (exact[1] - exact[0]) // exact[2] * exact[2])  # the last that a step reaches
    return Range(low=low, high=high, log=log, step=step)


def _check_number(value: Any, place: str) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not abs(value) <= sys.float_info.max:  # an integer may have any length
        raise SpaceError(f"{place}: {value!r} is not a number")
