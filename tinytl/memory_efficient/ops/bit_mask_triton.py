"""Masks of one bit on a GPU, by one kernel each way. Triton comes with PyTorch's builds for CUDA.

The bits are those that NumPy makes on a CPU: the first element is a byte's highest bit.
"""

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.utils._mode_utils import no_dispatch

_BYTES = 256
"""Bytes of bits per program: 2,048 elements."""


@triton.jit  # type: ignore[untyped-decorator]
def _pack(values, bits, n, low, high, bounded: tl.constexpr, n_bytes: tl.constexpr):  # type: ignore[no-untyped-def]
    byte = tl.program_id(0).to(tl.int64) * n_bytes + tl.arange(0, n_bytes)
    place = tl.arange(0, 8)
    at = byte[:, None] * 8 + place[None, :]
    value = tl.load(values + at, mask=at < n, other=0.0).to(tl.float32)
    outside = value <= low
    if bounded:
        outside = outside | (value >= high)
    inside = tl.where(outside, 0, 1) << (7 - place)[None, :]
    tl.store(bits + byte, tl.sum(inside, axis=1).to(tl.uint8), mask=byte * 8 < n)


@triton.jit  # type: ignore[untyped-decorator]
def _apply(grad, bits, out, n, n_bytes: tl.constexpr):  # type: ignore[no-untyped-def]
    byte = tl.program_id(0).to(tl.int64) * n_bytes + tl.arange(0, n_bytes)
    place = tl.arange(0, 8)
    at = byte[:, None] * 8 + place[None, :]
    packed = tl.load(bits + byte, mask=byte * 8 < n, other=0).to(tl.int32)
    inside = (packed[:, None] >> (7 - place)[None, :]) & 1
    value = tl.load(grad + at, mask=at < n, other=0.0)
    tl.store(out + at, tl.where(inside == 1, value, 0.0), mask=at < n)


def pack_by_triton(flat: Tensor, bits: Tensor, low: float, high: float) -> None:
    """Writes the bits of `low < flat < high` (NaN counts as inside) into `bits`, of `ceil(n / 8)` bytes."""
    bounded = high < float("inf")
    grid = (triton.cdiv(bits.numel(), _BYTES),)
    with torch.cuda.device_of(flat):  # Triton launches on the current GPU, whatever the tensors' is
        _pack[grid](flat, bits, flat.numel(), low, high if bounded else 0.0, bounded, _BYTES)


def apply_by_triton(grad: Tensor, bits: Tensor, out: Tensor) -> None:
    """Writes flat `grad` where its bit is set and 0 elsewhere into `out`, which may be `grad`."""
    grid = (triton.cdiv(bits.numel(), _BYTES),)
    with torch.cuda.device_of(grad):
        _apply[grid](grad, bits, out, grad.numel(), _BYTES)


@cache
def kernels_work(device: torch.device) -> bool:
    """Whether the kernels run on `device`, for each of their types, and say what is right there."""
    with no_dispatch(), torch.no_grad():
        try:
            return all(_is_right(device, dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16))
        except Exception:  # of any kind: torch's own operations do the same
            return False


def _is_right(device: torch.device, dtype: torch.dtype) -> bool:
    values = torch.tensor([-1, 0, 0.5, 6, 7, float("nan"), 3, -2, 5], dtype=dtype, device=device)
    bits = torch.empty(2, dtype=torch.uint8, device=device)
    applied = torch.empty_like(values)
    pack_by_triton(values, bits, 0.0, 6.0)
    apply_by_triton(torch.ones_like(values), bits, applied)
    return applied.tolist() == [0, 0, 1, 0, 0, 1, 1, 0, 1] and int(bits[0]) == 0b00100110
