"""Calls in a process that ends afterwards, and so gives back what it held on a GPU, CUDA's context too."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def in_own_process(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Returns what a function of a module returns, called in a process of its own.

    In this one if none can start: a script needs `if __name__ == "__main__":` for that.
    """
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(function, *args, **kwargs).result()
    except BrokenProcessPool:
        return function(*args, **kwargs)
