"""What CPU kernels allocate inside, invisible to a dispatch mode and real for the allocator.

A convolution of oneDNN's is asked (`measured_scratch`), and so is a product of matrices in 16 bits, whose
weight oneDNN may pack. A type that oneDNN does not convolve on this CPU, as float64 on every one, goes by
columns of the image, a group at a time: the groups' results and their concatenation exist at once. Batch
norm's backward makes its result twice, unless its arguments differ in memory format. A sum in 16 bits may
begin with a copy in 32. A fused optimiser copies a gradient that is not contiguous, such as a channels_last
one, one parameter at a time.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tinytl.memory_efficient.ops.measured_scratch import measured_scratch_bytes, product_scratch_bytes

_CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)
_PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
_MEANS = (torch.ops.aten.mean.default, torch.ops.aten.mean.dim)
_SUMS = (torch.ops.aten.sum.default, torch.ops.aten.sum.dim_IntList, *_MEANS)
_FUSED_STEPS = tuple(
    getattr(torch.ops.aten, f"_fused_{name}_").default for name in ("sgd", "adam", "adamw", "adagrad")
)


def scratch_bytes(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None) -> int:
    """Returns the bytes that the CPU kernel of `func(*args, **kwargs)` needs beside its outputs; 0 if
    unknown.
    """
    if func in _CONVOLUTIONS and _has_own_kernels(args[1].dtype):
        return measured_scratch_bytes(func, args)
    if func in _PRODUCTS and args[0].dtype.itemsize < 4 and _has_own_kernels(args[0].dtype):
        return product_scratch_bytes(func, args)
    if func is torch.ops.aten.convolution.default:
        image, weight, transposed, groups = args[0], args[1], args[6], args[8]
        return _column_bytes(image, weight, args[3], args[4], args[7] if transposed else None, groups)
    if func is torch.ops.aten.convolution_backward.default:
        grad, image, weight, groups, wanted = (*args[:3], args[9], args[10])
        return _column_bytes_of_backward(grad, image, weight, groups, wanted)
    if func is torch.ops.aten.native_batch_norm_backward.default:
        grad, image, wanted = args[0], args[1], args[9]
        return image.numel() * image.element_size() if wanted[0] and _same_format(grad, image) else 0
    if func in _SUMS:
        return _widened_bytes(func, args[0], args[1] if len(args) > 1 else None, (kwargs or {}).get("dtype"))
    if func in _FUSED_STEPS:
        return max((grad.nbytes for grad in args[1] if not grad.is_contiguous()), default=0)
    return 0


def _widened_bytes(func: Any, x: torch.Tensor, axes: Sequence[int] | None, dtype: Any) -> int:
    """Returns the bytes of the copy in 32 bits that a sum or mean of 16 bits is made of, 0 if of none."""
    if x.dtype.itemsize >= 4 or not x.dtype.is_floating_point:
        return 0
    is_wide = dtype is not None and dtype.itemsize >= 4
    if is_wide or func in _MEANS or _is_reduced_in_parts(x, axes):
        return x.numel() * torch.float32.itemsize
    return 0


def _is_reduced_in_parts(x: torch.Tensor, axes: Sequence[int] | None) -> bool:
    """Whether the axes to sum over are several stretches of memory: then ATen's sum of 16 bits
    (`should_use_acc_buffer`) begins with a copy.
    """
    wanted = range(x.dim()) if not axes else [axis % x.dim() for axis in axes]
    lengths = sorted((x.stride(axis), x.shape[axis]) for axis in wanted if x.shape[axis] > 1)
    return any(step * n != following for (step, n), (following, _) in itertools.pairwise(lengths))


@functools.cache
def _has_own_kernels(dtype: torch.dtype) -> bool:
    """Whether oneDNN convolves this type on this CPU."""
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if dtype == torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return dtype == torch.float32


def _column_bytes(
    image: torch.Tensor,
    weight: torch.Tensor,
    stride: list[int],
    padding: list[int],
    added: list[int] | None,
    groups: int,
) -> int:
    """Returns the bytes beside the result of a convolution by columns: columns, copies, groups' results.

    `added`: the output padding of a transposed convolution, None for any other.
    """
    transposed = added is not None
    sides = [
        (size - 1) * step - 2 * pad + k + more if transposed else (size + 2 * pad - k) // step + 1
        for size, step, pad, k, more in zip(
            image.shape[2:], stride, padding, weight.shape[2:], added or [0, 0], strict=True
        )
    ]
    out_channels = weight.shape[1] * groups if transposed else weight.shape[0]
    result = image.shape[0] * out_channels * sides[0] * sides[1] * weight.element_size()
    columns = _columns_of_a_group(weight, image.shape[0], image.shape[2:] if transposed else sides)
    own = _copied_weight_bytes(weight, groups)
    if groups == 1:
        return own + columns
    return own + max(result, image.nbytes // groups + columns)


def _column_bytes_of_backward(
    grad: torch.Tensor, image: torch.Tensor, weight: torch.Tensor, groups: int, wanted: list[bool]
) -> int:
    own = _copied_weight_bytes(weight, groups)
    columns = _columns_of_a_group(weight, grad.shape[0], grad.shape[2:]) if wanted[1] else 0
    if groups == 1:
        return own + columns
    pieces = (image.nbytes + grad.nbytes) // groups + columns if wanted[1] else 0
    return own + max(image.nbytes if wanted[0] else 0, pieces)


def _copied_weight_bytes(weight: torch.Tensor, groups: int) -> int:
    is_matrix_product = groups == 1 and weight.shape[2:] == (1, 1)
    return 0 if is_matrix_product or weight.shape[1] == 1 else weight.nbytes


def _columns_of_a_group(weight: torch.Tensor, samples: int, sides: Sequence[int]) -> int:
    """Returns the bytes of a group's columns: one value per weight of a kernel and place of the smaller map.
    A kernel of 1 x 1 reads the image itself.
    """
    per_place = weight.shape[1] * weight.shape[2] * weight.shape[3]
    if weight.shape[2:] == (1, 1):
        return 0
    return samples * per_place * sides[0] * sides[1] * weight.element_size()


def _same_format(one: torch.Tensor, other: torch.Tensor) -> bool:
    return any(
        one.is_contiguous(memory_format=form) and other.is_contiguous(memory_format=form)
        for form in (torch.contiguous_format, torch.channels_last)
    )
