"""What the walk through slices tells of the operations that it calls, for those that count them."""

from collections.abc import Iterator
from contextlib import contextmanager


class Walk:
    """Where the engine is; read by `tinytl.memory.storage_tracker`."""

    lean = False
    """Whether a lean function runs, whose calls come from Python one by one."""
    recomputes = False
    """Whether a slice is recomputed whole, so that a block inside of it need not be recomputed once more."""
    times = 1
    """How many slices the present one stands for: fake tensors, which compute nothing, walk only a few."""


WALK = Walk()


@contextmanager
def lean_function() -> Iterator[None]:
    """Inside of it a lean function runs."""
    WALK.lean = True
    try:
        yield
    finally:
        WALK.lean, WALK.times = False, 1
