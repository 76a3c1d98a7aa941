"""torch's optimisers, in a process that loads no compiler.

torch wraps their methods, so that `torch.compile` passes over them. The first call of such a method imports
the compiler, `torch._dynamo`: 170 MiB, and some seconds, that nobody needs who compiles nothing. What is
wrapped is there to be called, because Python's `functools.wraps` keeps it.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch


class UncompiledOptimizer(torch.optim.Optimizer):
    """An optimiser whose methods load no compiler. Not for use inside of `torch.compile`.

    A kind has a `step` of its own, which computes no gradients.
    """

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)


def _step_of(kind: type[torch.optim.Optimizer]) -> Callable[..., Any]:
    return torch.no_grad()(inspect.unwrap(kind.step))


class Adam(UncompiledOptimizer, torch.optim.Adam):
    """torch's Adam."""

    step = _step_of(torch.optim.Adam)


class AdamW(UncompiledOptimizer, torch.optim.AdamW):
    """torch's AdamW."""

    step = _step_of(torch.optim.AdamW)


class SGD(UncompiledOptimizer, torch.optim.SGD):
    """torch's SGD."""

    step = _step_of(torch.optim.SGD)
