import math
import re
from collections.abc import Callable
from typing import Any

import pytest

from tinytl.config.checks import require_int, require_number
from tinytl.errors import ConfigError

INT_LIMITS = {"low": 2, "high": 5}


@pytest.mark.parametrize("value", [2, 3, 5])
def test_whole_numbers_within_their_limits_pass(value: int) -> None:
    require_int("n", value, **INT_LIMITS)


def test_a_limit_that_is_not_given_does_not_bind() -> None:
    require_int("n", 10**30, low=0)
    require_number("x", -1e300)
    require_number("x", 1e300)


@pytest.mark.parametrize(
    ("check", "limits", "value", "message"),
    [
        (require_int, INT_LIMITS, 1, "n=1 is below 2"),
        (require_int, INT_LIMITS, 6, "n=6 is above 5"),
        (require_int, INT_LIMITS, 3.0, "n=3.0 is not a whole number"),
        (require_int, INT_LIMITS, True, "n=True is not a whole number"),
        (require_int, INT_LIMITS, "3", "n='3' is not a whole number"),
        (require_int, INT_LIMITS, None, "n=None is not a whole number"),
        (require_number, {"low": 0.5}, 0.25, "n=0.25 is below 0.5"),
        (require_number, {"above": 0.5}, 0.5, "n=0.5 is not above 0.5"),
        (require_number, {"high": 0.5}, 1, "n=1 is above 0.5"),
        (require_number, {"below": 0.5}, 0.5, "n=0.5 is not below 0.5"),
        (require_number, {}, math.nan, "n=nan is not a finite number"),
        (require_number, {}, -math.inf, "n=-inf is not a finite number"),
        (require_number, {}, False, "n=False is not a finite number"),
        (require_number, {}, "1e-3", "n='1e-3' is not a finite number"),
    ],
)
def test_the_line_has_name_value_and_limit(
    check: Callable[..., None], limits: dict[str, Any], value: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        check("n", value, **limits)


def test_a_limit_belongs_to_the_range_if_it_is_low_or_high_alone() -> None:
    require_number("x", 0.5, low=0.5, high=0.5)
    require_number("x", 1, above=0, below=2)
