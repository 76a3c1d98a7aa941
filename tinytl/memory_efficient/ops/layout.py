"""Memory formats: lean functions work on channels_last, for which oneDNN holds no second copy."""

import torch
from torch import Tensor


def channels_last(tensor: Tensor) -> Tensor:
    """Returns `(N, C, H, W)` in channels_last memory; itself if it is so already."""
    return tensor.contiguous(memory_format=torch.channels_last)


def empty_channels_last(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Returns uninitialised memory for `(N, C, H, W)`, with `like`'s type and device."""
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


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
