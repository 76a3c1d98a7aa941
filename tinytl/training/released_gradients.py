"""An optimiser that takes gradients as backward makes them: they never exist all at the same time."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from tinytl.training.data_parallel import ALONE, Ranks

HELD_BYTES = 1 << 18
"""Gradients wait until they are so many bytes together: a step for each bias would need a quarter of the time
of the pass."""


@contextmanager
def gradients_released(optimizer: torch.optim.Optimizer, ranks: Ranks = ALONE) -> Iterator[None]:
    """Inside of it a backward pass updates the parameters of `optimizer` and frees their gradients.

    The numbers are those of one step after the pass: an optimiser looks at each parameter alone. A pass makes
    a parameter's gradient once it no longer needs its value. Gradients are unset before it and after it.
    Several processes sum gradients within the pass, so all of them have to run it.
    """
    waiting: list[Tensor] = []

    def made(parameter: Tensor) -> None:
        waiting.append(parameter)
        if sum(other.nbytes for other in waiting) >= HELD_BYTES:
            take()

    def take() -> None:
        ranks.sum_(*(parameter.grad for parameter in waiting if parameter.grad is not None))
        optimizer.step()  # passes over parameters without a gradient
        for parameter in waiting:
            parameter.grad = None
        waiting.clear()

    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    hooks = [parameter.register_post_accumulate_grad_hook(made) for parameter in trained]
    try:
        yield
        take()
    finally:
        for hook in hooks:
            hook.remove()
