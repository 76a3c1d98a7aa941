"""Activations that keep one bit per element (ReLU, ReLU6, leaky ReLU), or one float tensor (all others).

ReLU's and ReLU6's gradients are 0 or 1: stock torch keeps 32 bits for that. Hard-swish's gradient is
x / 3 + 1/2 between -3 and 3, so its input must be kept, and only that. SiLU, hard-sigmoid, sigmoid and
tanh keep their input, too; the last three are used where maps are small.
"""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from tinytl.memory_efficient.ops.bit_mask import apply_bits, pack_interior
from tinytl.memory_efficient.ops.first_derivative import first_derivative
from tinytl.memory_efficient.ops.layout import dense
from tinytl.memory_efficient.ops.precision import gradient_wanted

PASSES_BETWEEN = {"relu": (0.0, math.inf), "relu6": (0.0, 6.0)}
"""Activations whose gradient is 1 inside an open interval of the output (or input) and 0 outside."""
ACTIVATIONS = (
    "none",
    "relu",
    "relu6",
    "hardswish",
    "hardsigmoid",
    "exact_hardsigmoid",
    "sigmoid",
    "silu",
    "tanh",
)


def activate_(z: Tensor, name: str) -> Tensor:
    """Applies the activation in place; the caller must own `z`."""
    if name == "relu":
        return z.relu_()
    if name == "relu6":
        return z.clamp_(0, 6)
    if name == "hardswish":
        return F.hardswish(z, inplace=True)
    if name == "hardsigmoid":
        return F.hardsigmoid(z, inplace=True)
    if name == "exact_hardsigmoid":
        return z.add_(3).clamp_(0, 6).div_(6)
    if name == "sigmoid":
        return z.sigmoid_()
    if name == "tanh":
        return z.tanh_()
    if name == "silu":
        return F.silu(z, inplace=True)
    assert name == "none", name
    return z


def activation_grad(grad: Tensor, values: Tensor, name: str, out: Tensor | None) -> Tensor:
    """Returns the gradient of the activation's input: `out` if given (may be `grad`), but for hard-swish.

    `values` is the output or the input of a ReLU or ReLU6, the input of any other, with `grad`'s layout.
    """
    if name == "hardswish":  # its form with `out` makes the same tensor, where no tracker of memory sees it
        return cast(Tensor, torch.ops.aten.hardswish_backward(grad, values))
    if out is None:
        out = torch.empty_like(grad)
    if name == "hardsigmoid":
        return cast(Tensor, torch.ops.aten.hardsigmoid_backward.grad_input(grad, values, grad_input=out))
    if name == "exact_hardsigmoid":
        inside = torch.ops.aten.hardtanh_backward.grad_input(grad, values, -3, 3, grad_input=out)
        return cast(Tensor, inside.div_(6))
    if name == "sigmoid":
        return cast(
            Tensor, torch.ops.aten.sigmoid_backward.grad_input(grad, values.sigmoid(), grad_input=out)
        )
    if name == "tanh":
        return cast(Tensor, torch.ops.aten.tanh_backward.grad_input(grad, values.tanh(), grad_input=out))
    if name == "silu":
        return cast(Tensor, torch.ops.aten.silu_backward.grad_input(grad, values, grad_input=out))
    low, high = PASSES_BETWEEN[name]
    return cast(Tensor, torch.ops.aten.hardtanh_backward.grad_input(grad, values, low, high, grad_input=out))


def lean_activation(x: Tensor, name: str, inplace: bool = False) -> Tensor:
    """Applies the activation to `x` of any shape under autograd; `inplace` edits `x`."""
    if name == "none":
        return x
    if not gradient_wanted(x) or not x.is_floating_point():
        return activate_(x if inplace else x.clone(), name)
    return cast(Tensor, ActivationFunction.apply(x, name, inplace))


class ActivationFunction(torch.autograd.Function):
    """Activation under autograd; use `lean_activation`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, name: str, inplace: bool) -> Tensor:
        """Keeps packed bits (ReLU, ReLU6) or the input."""
        ctx.name = name
        kept = x.clone() if inplace and name not in PASSES_BETWEEN else x
        y = activate_(x if inplace else x.clone(), name)
        if name in PASSES_BETWEEN:
            packed = dense(y)
            ctx.layout = packed.stride()
            kept = pack_interior(packed, *PASSES_BETWEEN[name])
        if inplace:
            ctx.mark_dirty(x)
        ctx.save_for_backward(kept)
        return y

    @staticmethod
    @first_derivative
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Masks into new memory: `grad` may be someone else's."""
        (kept,) = ctx.saved_tensors
        if ctx.name not in PASSES_BETWEEN:
            return activation_grad(grad, kept, ctx.name, None), None, None
        out = torch.empty_strided(grad.shape, ctx.layout, dtype=grad.dtype, device=grad.device)
        grad = grad if grad.stride() == out.stride() else out.copy_(grad)
        return apply_bits(grad, kept, out), None, None


def lean_leaky_relu(x: Tensor, slope: float, inplace: bool = False) -> Tensor:
    """Applies leaky ReLU, of a slope above 0, to `x` of any shape under autograd; `inplace` edits `x`."""
    if not gradient_wanted(x):
        return F.leaky_relu(x, slope, inplace)
    return cast(Tensor, LeakyReLUFunction.apply(x, slope, inplace))


class LeakyReLUFunction(torch.autograd.Function):
    """Leaky ReLU under autograd; use `lean_leaky_relu`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float, inplace: bool) -> Tensor:
        """Keeps packed bits: the output has the input's sign."""
        y = F.leaky_relu(x, slope, inplace)
        packed = dense(y)
        ctx.slope, ctx.layout = slope, packed.stride()
        if inplace:
            ctx.mark_dirty(x)
        ctx.save_for_backward(pack_interior(packed, 0.0, math.inf))
        return y

    @staticmethod
    @first_derivative
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Multiplies by 1 or the slope, into new memory."""
        (bits,) = ctx.saved_tensors
        out = torch.empty_strided(grad.shape, ctx.layout, dtype=grad.dtype, device=grad.device).fill_(1)
        signs = apply_bits(out, bits, out)
        backward = torch.ops.aten.leaky_relu_backward.grad_input
        return backward(grad, signs, ctx.slope, False, grad_input=out), None, None
