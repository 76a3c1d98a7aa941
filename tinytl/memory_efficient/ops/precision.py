"""Which floating type a lean operation computes in, and whether its gradient is needed."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from tinytl.device import autocast_kind


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """Returns autocast's type for convolutions on `x`'s device, None if it is off.

    As in torch, 64-bit tensors are left alone.
    """
    kind = autocast_kind(x.device.type)
    if not torch.is_autocast_enabled(kind) or x.dtype == torch.float64:
        return None
    return torch.get_autocast_dtype(kind)


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Returns a context in which operations keep the types they are given."""
    kind = autocast_kind(x.device.type)
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def gradient_wanted(*tensors: Tensor | None) -> bool:
    """Whether gradients are recorded now and any of the tensors needs one."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def cast_to(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns `tensor` in `dtype`, itself if it is; one call fewer than `tensor.to`, which matters here."""
    return tensor if tensor.dtype is dtype else tensor.to(dtype)
