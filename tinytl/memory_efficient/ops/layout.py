"""Memory formats: blocks work in channels_last, of which oneDNN holds no second copy, and answer as stock."""

from collections.abc import Iterable

import torch
from torch import Tensor


def channels_last(tensor: Tensor) -> Tensor:
    """Returns `(N, C, H, W)` in channels_last memory; itself if it is so already."""
    return tensor.contiguous(memory_format=torch.channels_last)


def memory_format(tensor: Tensor) -> torch.memory_format:
    """Returns the format in which torch's own operations would answer to `(N, C, H, W)`: its strides decide.

    Maps of one channel and of one pixel are dense in both formats; this is ATen's `suggest_memory_format`.
    """
    shape, strides = tensor.shape, tensor.stride()
    if strides[1] == 0:
        return torch.contiguous_format
    least = 0
    for dim in (1, 3, 2, 0):
        if shape[dim] == 0 or strides[dim] < least or (dim == 0 and least == strides[1]):
            return torch.contiguous_format
        least = strides[dim] * shape[dim]
    return torch.channels_last


def convolution_format(x: Tensor, weights: Iterable[Tensor]) -> torch.memory_format:
    """Returns the format in which torch's convolutions answer: channels_last if one tensor lies so."""
    return next(
        (torch.channels_last for tensor in (x, *weights) if memory_format(tensor) is torch.channels_last),
        torch.contiguous_format,
    )


def empty_like(shape: tuple[int, ...], like: Tensor, form: torch.memory_format) -> Tensor:
    """Returns uninitialised memory for `(N, C, H, W)` in the format `form`, with `like`'s type and device."""
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=form)


def dense(tensor: Tensor) -> Tensor:
    """Returns `tensor` without gaps: itself if it is contiguous or channels_last."""
    if tensor.is_contiguous() or (
        tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    ):
        return tensor
    return tensor.contiguous()


def dense_format(tensor: Tensor) -> torch.memory_format:
    """Returns the memory format of a dense `(N, C, H, W)`; channels_last if it is both."""
    if tensor.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format
