"""A call in a process of its own."""

import os
from concurrent.futures.process import BrokenProcessPool

import pytest

from tinytl.step_time import own_process
from tinytl.step_time.own_process import in_own_process


def test_it_returns_what_the_function_returns_and_leaves_no_process() -> None:
    assert in_own_process(os.getpid) != os.getpid()
    assert in_own_process(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        in_own_process(divmod, 7, 0)


def test_this_process_does_it_if_none_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoPool:
        def __init__(self, *args: object) -> None:
            raise BrokenProcessPool

    monkeypatch.setattr(own_process, "ProcessPoolExecutor", NoPool)
    assert in_own_process(os.getpid) == os.getpid()
