"""The sum of a map over all but its channels: the gradient of a bias."""

import torch
from torch import Tensor

AT_A_TIME_BYTES = 1 << 20
"""So much of a map in 16 bits is summed at a time, but at least one sample."""


def channel_sum(grad: Tensor) -> Tensor:
    """Returns the sum over all axes of `(N, C, ...)` but channels, `(C,)`.

    Of 16 bits it is made in 32. torch would copy all of a contiguous map to 32 bits for that; here it is a
    few samples at a time.
    """
    axes = (0, *range(2, grad.dim()))
    if grad.dtype.itemsize >= 4 or grad.stride(1) == 1 or not len(grad):
        return grad.sum(axes)
    parts = grad.split(max(1, AT_A_TIME_BYTES // max(1, grad[:1].nbytes)))
    return torch.stack([part.sum(axes, dtype=torch.float32) for part in parts]).sum(0).to(grad.dtype)
