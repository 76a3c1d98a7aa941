"""Resizing a map: it is linear in its input, so backward needs two sizes and no tensor."""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from tinytl.memory_efficient.ops.first_derivative import first_derivative
from tinytl.memory_efficient.ops.precision import gradient_wanted
from tinytl.networks.upsample import Mode, Size, has_repeatable_gradient, upsample_grad


def resize(x: Tensor, size: Size, mode: Mode) -> Tensor:
    """Resizes `(N, C, H, W)` to `(N, C, *size)`, corners not aligned."""
    return F.interpolate(x, size, mode=mode)


def resize_grad(grad: Tensor, size: Size, mode: Mode) -> Tensor:
    """Returns the gradient `(N, C, *size)` of the input of `resize`, in new memory."""
    if not has_repeatable_gradient(grad, mode):
        return upsample_grad(grad, size, mode)
    whole = [grad.shape[0], grad.shape[1], *size]
    target = [grad.shape[2], grad.shape[3]]
    if mode == "bilinear":
        return cast(Tensor, torch.ops.aten.upsample_bilinear2d_backward(grad, target, whole, False))
    if mode == "bicubic":
        return cast(Tensor, torch.ops.aten.upsample_bicubic2d_backward(grad, target, whole, False))
    return cast(Tensor, torch.ops.aten.upsample_nearest2d_backward(grad, target, whole))


def lean_resize(x: Tensor, size: Size, mode: Mode = "bilinear") -> Tensor:
    """Resizes `(N, C, H, W)` under autograd, keeping no tensor."""
    if not gradient_wanted(x):
        return resize(x, size, mode)
    return cast(Tensor, ResizeFunction.apply(x, size, mode))


class ResizeFunction(torch.autograd.Function):
    """Resizing under autograd; use `lean_resize`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: Size, mode: Mode) -> Tensor:
        """Keeps the input's size."""
        ctx.mode, ctx.size = mode, (x.shape[2], x.shape[3])
        return resize(x, size, mode)

    @staticmethod
    @first_derivative
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Applies the transposed map."""
        return resize_grad(grad, ctx.size, ctx.mode), None, None
