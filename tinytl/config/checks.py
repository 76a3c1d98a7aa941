"""Checks of a number's type and range, each with one line for the user."""

import sys
from typing import Any

from tinytl.errors import ConfigError


def require_int(name: str, value: Any, *, low: int, high: int | None = None) -> None:
    """Raises ConfigError if `value` is no whole number, below `low` or above `high`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{name}={value!r} is not a whole number")
    if value < low:
        raise ConfigError(f"{name}={value} is below {low}")
    if high is not None and value > high:
        raise ConfigError(f"{name}={value} is above {high}")


def require_number(
    name: str,
    value: Any,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
) -> None:
    """Raises ConfigError if `value` is no finite number, or not at least `low`, more than `above`,
    at most `high`, less than `below`.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not abs(value) <= sys.float_info.max:  # an integer may have any length
        raise ConfigError(f"{name}={value!r} is not a finite number")
    if low is not None and value < low:
        raise ConfigError(f"{name}={value:g} is below {low:g}")
    if above is not None and value <= above:
        raise ConfigError(f"{name}={value:g} is not above {above:g}")
    if high is not None and value > high:
        raise ConfigError(f"{name}={value:g} is above {high:g}")
    if below is not None and value >= below:
        raise ConfigError(f"{name}={value:g} is not below {below:g}")
