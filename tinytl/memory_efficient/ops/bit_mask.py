"""One bit per element for "the gradient passes here", for which a float tensor needs 32.

Masks are in memory order, so a mask fits every tensor of the same shape *and* memory format. Work is done in
chunks, so that no temporary is as large as a large tensor.

On a CPU NumPy packs and applies the bits of 32 and 64-bit floats, on one thread in a third to two thirds of
the time of torch's operations: two operations of torch's library, `tinytl::pack_interior` and
`tinytl::apply_bits`, so that what counts operations sees them. On a GPU Triton does it, a kernel each way, if
it is there and works. Else torch's own operations do it, and the order of the bits is another one.
"""

import math
import os
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from shutil import which
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from tinytl.device import takes_cpu_path

_CPU_CHUNK = 1 << 18
"""Elements per chunk on a CPU: one MiB of floats is small beside a slice, and needs few operations."""
_DEVICE_CHUNK = 1 << 24
"""Elements per chunk elsewhere: few launches matter more than a cache."""
_NUMPY_CHUNK = 1 << 15
"""Elements per chunk by NumPy, whose temporaries, up to two bytes an element, no tracker of memory sees."""
_UNSIGNED = {torch.float32: np.uint32, torch.float64: np.uint64}
"""By the types whose masks NumPy makes on a CPU: integers of their size."""
_BY_TRITON = (torch.float32, torch.bfloat16, torch.float16)
"""The types whose masks Triton makes on a GPU: it compares in 32 bits."""


def memory_order(tensor: Tensor) -> Tensor:
    """Returns a dense `tensor` as a flat view in the order of its memory.

    Raises:
        ValueError: for a tensor that is neither contiguous nor channels_last.
    """
    if tensor.is_contiguous():
        return tensor.view(-1)
    if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor.permute(0, 2, 3, 1).view(-1)
    raise ValueError(
        f"a dense tensor is needed, got shape {tuple(tensor.shape)} with strides {tensor.stride()}"
    )


def pack_interior(values: Tensor, low: float, high: float) -> Tensor:
    """Returns the bits of `low < values < high` (NaN counts as inside, as in torch's own backward).

    `values` is floating and dense, of any shape; the result is uint8 of `ceil(numel / 8)`.
    """
    if _is_one_operation(values):
        return torch.ops.tinytl.pack_interior.default(values, low, high)
    flat = memory_order(values)
    pieces = [_pack(piece, low, high) for piece in _chunks(flat)]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def apply_bits(grad: Tensor, bits: Tensor, out: Tensor) -> Tensor:
    """Writes `grad` where the bit is set and 0 elsewhere into `out`, and returns `out`.

    `out` may be `grad` itself if the caller made it. All have the memory order, and the type, of the packed
    tensor.

    Raises:
        ValueError: for bits of another number of elements.
    """
    if bits.numel() != (grad.numel() + 7) // 8:
        raise ValueError(f"{bits.numel()} bytes of bits do not fit {grad.numel()} elements")
    if _is_one_operation(grad):
        torch.ops.tinytl.apply_bits.default(grad, bits, out)
        return out
    source = memory_order(grad)
    target = source if out is grad else memory_order(out)
    powers = _powers_of_two(source, torch.uint8)
    start = 0
    for piece, into in zip(_chunks(source), _chunks(target), strict=True):
        n = piece.numel()
        packed = bits if bits.numel() * 8 - 8 < n else bits[start // 8 : (start + n + 7) // 8]
        inside = torch.bitwise_and(packed, powers).view(-1).to(piece.dtype)
        if n % 8:
            inside = inside[:n]
        # Not a product: what is cut off must be 0 even if the gradient is infinite.
        torch.ops.aten.threshold_backward.grad_input(piece, inside, 0, grad_input=into)
        start += n
    return out


def _is_one_operation(tensor: Tensor) -> bool:
    if tensor.device.type == "cpu":  # on a GPU's path, too: NumPy stands in for its kernel
        return tensor.dtype in _UNSIGNED and (
            takes_cpu_path(tensor) or (tensor.dtype in _BY_TRITON and _has_triton())
        )
    if tensor.device.type != "cuda" or tensor.dtype not in _BY_TRITON or not _has_triton():
        return False
    if isinstance(tensor, FakeTensor):  # a prediction starts nothing on a GPU
        return True
    from tinytl.memory_efficient.ops.bit_mask_triton import kernels_work

    return kernels_work(tensor.device)


@cache
def _has_triton() -> bool:
    """Whether Triton can be expected to work: it is here, and the C compiler that it needs as it runs."""
    compilers = [os.environ.get("CC"), "gcc", "clang"]
    return find_spec("triton") is not None and any(which(name) for name in compilers if name)


def _pack_on_gpu(values: Tensor, low: float, high: float) -> Tensor:
    from tinytl.memory_efficient.ops.bit_mask_triton import pack_by_triton

    bits = _bits_for(values)
    pack_by_triton(memory_order(values), bits, low, high)
    return bits


def _apply_on_gpu(grad: Tensor, bits: Tensor, out: Tensor) -> None:
    from tinytl.memory_efficient.ops.bit_mask_triton import apply_by_triton

    apply_by_triton(memory_order(grad), bits, memory_order(out))


def _pack_by_numpy(values: Tensor, low: float, high: float) -> Tensor:
    flat = _flat(values)
    n = len(flat)
    bits = _bits_for(values)
    packed = bits.numpy()
    for start in range(0, n, _NUMPY_CHUNK):
        piece = flat[start : start + _NUMPY_CHUNK]
        outside = piece <= low
        if high < math.inf:
            outside |= piece >= high
        packed[start // 8 : (start + _NUMPY_CHUNK) // 8] = np.packbits(outside)
    np.invert(packed, out=packed)
    return bits


def _apply_by_numpy(grad: Tensor, bits: Tensor, out: Tensor) -> None:
    # A product of integers: that of floats is not 0 where the gradient is infinite.
    source = _flat(grad).view(_UNSIGNED[grad.dtype])
    target = source if out is grad else _flat(out).view(_UNSIGNED[grad.dtype])
    packed = bits.numpy()
    for start in range(0, len(source), _NUMPY_CHUNK):
        piece = source[start : start + _NUMPY_CHUNK]
        inside = np.unpackbits(packed[start // 8 : (start + _NUMPY_CHUNK) // 8], count=len(piece))
        np.multiply(piece, inside, out=target[start : start + _NUMPY_CHUNK])


def _flat(tensor: Tensor) -> npt.NDArray[Any]:
    """Returns a dense tensor's memory as an array."""
    return memory_order(tensor.detach() if tensor.requires_grad else tensor).numpy()


def _bits_for(values: Tensor, *_: float) -> Tensor:
    return torch.empty((values.numel() + 7) // 8, dtype=torch.uint8, device=values.device)


def _nothing(*_: Tensor) -> None:
    pass


if not hasattr(torch.ops.tinytl, "apply_bits"):  # this module may be read a second time
    _LIBRARY = torch.library.Library("tinytl", "FRAGMENT")
    _LIBRARY.define("pack_interior(Tensor values, float low, float high) -> Tensor")
    _LIBRARY.define("apply_bits(Tensor grad, Tensor bits, Tensor(a!) out) -> ()")
    _LIBRARY.impl("pack_interior", _pack_by_numpy, "CPU")
    _LIBRARY.impl("apply_bits", _apply_by_numpy, "CPU")
    _LIBRARY.impl("pack_interior", _pack_on_gpu, "CUDA")
    _LIBRARY.impl("apply_bits", _apply_on_gpu, "CUDA")
    _LIBRARY.impl("pack_interior", _bits_for, "Meta")
    _LIBRARY.impl("apply_bits", _nothing, "Meta")


def _pack(piece: Tensor, low: float, high: float) -> Tensor:
    # A comparison that yields booleans costs eight times this derivative on a CPU; sums of distinct
    # powers of two below 256 are exact in every floating type.
    inside = torch.ops.aten.hardtanh_backward(_one(piece, piece.dtype), piece, low, high)
    rest = -inside.numel() % 8
    if rest:
        inside = torch.nn.functional.pad(inside, (0, rest))
    return torch.mm(_powers_of_two(piece, piece.dtype), inside.view(8, -1)).view(-1).to(torch.uint8)


def _one(like: Tensor, dtype: torch.dtype) -> Tensor:
    # Fake tensors (and other kinds) do not mix with constants that were made earlier.
    make = _make_one if type(like) is Tensor else _make_one.__wrapped__
    return make(like.device, dtype)


def _powers_of_two(like: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns 1, 2, ..., 128: a row `(1, 8)` in a floating type, a column `(8, 1)` in an integer one."""
    make = _make_powers if type(like) is Tensor else _make_powers.__wrapped__
    return make(like.device, dtype)


@cache
def _make_one(device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.ones((), dtype=dtype, device=device)


@cache
def _make_powers(device: torch.device, dtype: torch.dtype) -> Tensor:
    powers = torch.pow(2, torch.arange(8, device=device)).to(dtype)
    return powers.view(1, 8) if dtype.is_floating_point else powers.view(8, 1)


def _chunks(flat: Tensor) -> Sequence[Tensor]:
    size = _CPU_CHUNK if takes_cpu_path(flat) else _DEVICE_CHUNK
    return (flat,) if flat.numel() <= size else flat.split(size)
