"""What CPU convolution kernels allocate inside, invisible to a dispatch mode and real for the allocator.

A model of torch's allocation events (oneDNN as of torch 2.15, AVX-512, channels_last float32) over groups,
kernels 1 to 7, strides and map sizes; right to kilobytes, which the peak of a step does not notice. Dense
and grouped convolutions with a kernel above 1 keep a reordered weight. The weight gradient is computed in
blocks of 16 x 16 channels a group, so that depthwise 5x5 and 7x7 take 256 times their weight. Depthwise 3x3
has a kernel of its own without blocks, unless the map is too small for it; on a map of one pixel whose
neighbours lie side by side in memory every depthwise kernel takes four times its weight. Batch norm's
backward makes its result twice, unless its arguments differ in memory format.
"""

from typing import Any

import torch

CHANNEL_BLOCK = 16


def scratch_bytes(func: Any, args: tuple[Any, ...]) -> int:
    """Returns the bytes that the CPU kernel of `func(*args)` takes beside its outputs; 0 where unknown."""
    if func is torch.ops.aten.convolution.default:
        weight, groups = args[1], args[8]
        return _reordered_bytes(weight, groups)
    if func is torch.ops.aten.convolution_backward.default:
        image, weight, stride, groups, wanted = args[1], args[2], args[4], args[9], args[10]
        if wanted[1]:
            return weight_gradient_bytes(weight, groups, image, stride[-1])
        return _reordered_bytes(weight, groups)
    if func is torch.ops.aten.native_batch_norm_backward.default:
        grad, image, wanted = args[0], args[1], args[9]
        return image.numel() * image.element_size() if wanted[0] and _same_format(grad, image) else 0
    return 0


def _reordered_bytes(weight: torch.Tensor, groups: int) -> int:
    return 0 if _is_matrix_product(weight, groups) else weight.numel() * weight.element_size()


def weight_gradient_bytes(weight: torch.Tensor, groups: int, image: torch.Tensor, stride: int) -> int:
    """Returns what the CPU's kernel of the weight's gradient takes beside it, for a convolved `image`."""
    if _is_matrix_product(weight, groups):
        return 0
    out_channels, in_per_group, height, width = weight.shape
    out_per_group = out_channels // groups
    plain = weight.numel() * weight.element_size()
    if in_per_group == out_per_group == 1:
        map_size = image.shape[-1]
        if map_size == 1 and image.stride(-1) == 1:
            return 4 * plain
        if height == width == 3 and map_size > 2 + (stride > 1):
            return 2 * plain
    blocked = (
        groups * _round_up(out_per_group) * _round_up(in_per_group) * height * width * weight.element_size()
    )
    return blocked + plain


def _same_format(one: torch.Tensor, other: torch.Tensor) -> bool:
    return any(
        one.is_contiguous(memory_format=form) and other.is_contiguous(memory_format=form)
        for form in (torch.contiguous_format, torch.channels_last)
    )


def _is_matrix_product(weight: torch.Tensor, groups: int) -> bool:
    return groups == 1 and weight.shape[2:] == (1, 1)


def _round_up(channels: int) -> int:
    return -(-channels // CHANNEL_BLOCK) * CHANNEL_BLOCK
