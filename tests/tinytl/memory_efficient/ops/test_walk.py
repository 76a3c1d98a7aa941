"""A lean function that fails leaves nothing behind for the next estimate."""

import pytest

from tinytl.memory_efficient.ops.walk import WALK, lean_function


def test_a_lean_function_ends_however_it_ends() -> None:
    with pytest.raises(RuntimeError, match="no such map"), lean_function():
        WALK.times = 5
        assert WALK.lean
        raise RuntimeError("no such map")
    assert not WALK.lean and WALK.times == 1
