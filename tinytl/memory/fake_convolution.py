"""Convolutions on fake tensors: sizes by the usual formula, the memory format of the kernel that would run.

PyTorch's own answer is the same. It imports sympy, for sizes that are no numbers.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch

FORWARD = torch.ops.aten.convolution.default
BACKWARD = torch.ops.aten.convolution_backward.default
CONVOLUTIONS = (FORWARD, BACKWARD)


def convolved(func: Any, args: Sequence[Any]) -> Any:
    """Returns, as meta tensors, what one of `CONVOLUTIONS` makes of fake tensors `(N, C, H, W)`."""
    if func is FORWARD:
        x, weight, bias, *settings = args
        form = _memory_format(x, weight, settings, bias=bias)
        return _empty(_size(x, weight, *settings), x.dtype, form)
    gradient, x, weight, bias_sizes, *settings, (of_input, of_weight, of_bias) = args
    form = _memory_format(x, weight, settings, bias_sizes=bias_sizes)
    return (
        _empty(x.shape, gradient.dtype, form) if of_input else None,
        _empty(weight.shape, gradient.dtype, form) if of_weight else None,
        _empty(bias_sizes, gradient.dtype, torch.contiguous_format) if of_bias else None,
    )


def _size(
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> list[int]:
    """Returns the size of a convolution's output."""
    size = [x.shape[0], weight.shape[1] * groups if transposed else weight.shape[0]]
    for axis in range(x.dim() - 2):
        step, pad, length = (
            values[axis if len(values) > 1 else 0] for values in (stride, padding, x.shape[2:])
        )
        reach = dilation[axis if len(dilation) > 1 else 0] * (weight.shape[axis + 2] - 1)
        if transposed:
            extra = output_padding[axis if len(output_padding) > 1 else 0]
            size.append((length - 1) * step - 2 * pad + reach + extra + 1)
        else:
            size.append((length + 2 * pad - reach - 1) // step + 1)
    return size


def _memory_format(x: Tensor, weight: Tensor, settings: Sequence[Any], **bias: Any) -> torch.memory_format:
    """Returns how the kernel that would run lays out its maps."""
    names = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")
    named = dict(zip(names, settings, strict=True))
    kernel = torch._C._select_conv_backend(x, weight, **named, **{"bias": None, **bias})
    return torch._C._conv_determine_backend_memory_format(x, weight, kernel)


def _empty(size: Sequence[int], dtype: torch.dtype, form: torch.memory_format) -> Tensor:
    with no_dispatch():
        return torch.empty(size, dtype=dtype, device="meta").to(memory_format=form)
