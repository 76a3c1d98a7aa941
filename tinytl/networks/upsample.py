"""Upsampling of a map whose gradient is the same in every run, on a GPU too.

PyTorch's own gradient of bilinear and bicubic resizing adds atomically on a GPU, in the order in which
threads come, so two equal runs differ in their last bits. Resizing is linear: the gradient is one product
with the transposed weights of the rows and one with those of the columns, in a fixed order.
"""

from functools import lru_cache
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from tinytl.device import takes_cpu_path

Mode = Literal["bilinear", "bicubic", "nearest"]
Size = tuple[int, int]


def upsample(x: Tensor, size: Size, mode: Mode) -> Tensor:
    """Resizes `(N, C, H, W)` to `(N, C, *size)` under autograd, corners not aligned; keeps no tensor."""
    if not (torch.is_grad_enabled() and x.requires_grad) or has_repeatable_gradient(x, mode):
        return F.interpolate(x, size, mode=mode)
    return cast(Tensor, _UpsampleFunction.apply(x, size, mode))


def has_repeatable_gradient(x: Tensor, mode: Mode) -> bool:
    """Whether PyTorch's own gradient of resizing `x` is the same in every run."""
    return mode == "nearest" or takes_cpu_path(x)


def upsample_grad(grad: Tensor, size: Size, mode: Mode) -> Tensor:
    """Returns the gradient `(N, C, *size)` of the input, in new memory and in the format of `grad`.

    Beside it, one map of the height of the input and the width of `grad` is needed for a moment.
    """
    n, channels, height, width = grad.shape
    rows = _weights(size[0], height, mode, grad)
    columns = _weights(size[1], width, mode, grad)
    if grad.is_contiguous(memory_format=torch.channels_last):
        maps = grad.permute(0, 2, 3, 1).reshape(n, height, width * channels)
        low = torch.bmm(rows.expand(n, *rows.shape), maps).view(n * size[0], width, channels)
        small = torch.bmm(columns.expand(len(low), *columns.shape), low)
        return small.view(n, *size, channels).permute(0, 3, 1, 2)
    maps = grad.reshape(n * channels, height, width)
    low = torch.bmm(rows.expand(len(maps), *rows.shape), maps)
    return torch.bmm(low, columns.t().expand(len(maps), width, size[1])).view(n, channels, *size)


class _UpsampleFunction(torch.autograd.Function):
    """Upsampling under autograd; use `upsample`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: Size, mode: Mode) -> Tensor:
        """Keeps the input's size."""
        ctx.mode, ctx.size = mode, (x.shape[2], x.shape[3])
        return F.interpolate(x, size, mode=mode)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Applies the transposed map."""
        return upsample_grad(grad, ctx.size, ctx.mode), None, None


def _weights(source: int, target: int, mode: Mode, like: Tensor) -> Tensor:
    """Returns `(source, target)`: how much of each pixel of a line goes to each pixel of its resized line."""
    if isinstance(like, FakeTensor):  # belongs to one mode, and is not to be kept
        return _computed_weights(source, target, mode, like.dtype, like.device)
    return _kept_weights(source, target, mode, like.dtype, like.device)


@torch.no_grad()
def _computed_weights(
    source: int, target: int, mode: Mode, dtype: torch.dtype, device: torch.device
) -> Tensor:
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    lines = torch.eye(source, dtype=exact, device=device).view(1, source, source, 1)
    return F.interpolate(lines, (target, 1), mode=mode).view(source, target).to(dtype)


_kept_weights = lru_cache(maxsize=256)(_computed_weights)
"""A network has a few sizes of maps; their weights need some kilobytes."""
