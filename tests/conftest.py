"""Tests have no GPU, and a core each: with more threads than cores, those that wait for one spin.

Programs that tests start inherit both. Without this, `make test` needs half as much CPU time again. Times of
steps come from a file, so that plans are the same on every machine. Features are not kept, so that no test
reads what another computed.
"""

import gc
import os
from collections.abc import Generator
from pathlib import Path

import pytest

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TINYTL_STEP_TIMES", str(Path(__file__).parent / "support" / "step_times.json"))
os.environ.setdefault("TINYTL_FEATURES_MIB", "0")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Takes the million objects that are imported and collected, and live to the end, from the garbage
    collector. Otherwise it looks at all of them again and again, for a quarter of the time of a collection.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_unconfigure() -> None:
    """Gives the objects back, or libraries complain at the end that theirs were leaked."""
    gc.unfreeze()
