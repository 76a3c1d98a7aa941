"""Long lists of dear cases, of which `make test` runs a few and `make test-all` every one."""

from collections.abc import Iterable
from typing import Any

import pytest


def sampled(cases: Iterable[Any], every: int) -> list[Any]:
    """Returns all `cases` for `parametrize`; all but the first of each `every` are slow.

    Products of lists come in cycles: choose an `every` that shares no factor with the lists' lengths.
    """
    return [case if turn % every == 0 else _slow(case) for turn, case in enumerate(cases)]


def _slow(case: Any) -> Any:
    values = case if type(case) is tuple else (case,)  # a named tuple is one value
    return pytest.param(*values, marks=pytest.mark.slow)
