"""Backward of lean functions cannot be differentiated: if asked to, it raises instead of being wrong."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch.autograd.function import once_differentiable

Backward = Callable[..., Any]


def first_derivative(backward: Backward) -> Backward:
    """Decorates a `backward` that works without a graph of its own.

    torch's `once_differentiable` refuses only if the incoming gradient needs one; a constant one would pass,
    and the result would silently lack its graph.
    """
    inner = once_differentiable(backward)

    @wraps(backward)
    def refusing(ctx: Any, *grads: Any) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "lean functions have no second derivative: leave out create_graph=True, or give the net "
                "its own forward back with undo_memory_efficient_ (engine=stock)"
            )
        return inner(ctx, *grads)

    return refusing
