"""Dropout that keeps one bit per element, while stock dropout on a CPU keeps a float."""

from typing import Any, cast

import torch
from torch import Tensor

from tinytl.device import takes_cpu_path
from tinytl.memory_efficient.ops.bit_mask import apply_bits, pack_interior
from tinytl.memory_efficient.ops.first_derivative import first_derivative
from tinytl.memory_efficient.ops.layout import dense
from tinytl.memory_efficient.ops.precision import gradient_wanted


def lean_dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """Zeroes elements of `x` with `probability` and scales the rest, as torch does, bit for bit.

    The random numbers are those that `torch.nn.functional.dropout` would draw.
    """
    if not training or probability in (0, 1) or not gradient_wanted(x):
        return torch.dropout(x, probability, training)
    return cast(Tensor, DropoutFunction.apply(x, probability))


class DropoutFunction(torch.autograd.Function):
    """Dropout under autograd; use `lean_dropout`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, probability: float) -> Tensor:
        """Keeps which elements survived; they are drawn in the order of `x`'s memory, as torch draws them."""
        ctx.probability = probability
        if takes_cpu_path(x):
            survives = torch.empty_like(x).bernoulli_(1 - probability)
            y = None
        else:
            y, mask = torch.native_dropout(x, probability, True)
            survives = mask.to(x.dtype)
        packed = dense(survives)
        ctx.layout = packed.stride()
        ctx.save_for_backward(pack_interior(packed, 0.0, 2.0))
        return x * survives.div_(1 - probability) if y is None else y

    @staticmethod
    @first_derivative
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Masks and scales into new memory."""
        (bits,) = ctx.saved_tensors
        out = torch.empty_strided(grad.shape, ctx.layout, dtype=grad.dtype, device=grad.device)
        grad = grad if grad.stride() == out.stride() else out.copy_(grad)
        return apply_bits(grad, bits, out).div_(1 - ctx.probability), None
