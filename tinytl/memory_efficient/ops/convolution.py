"""Convolution that keeps its input only if the weight trains, and needs no stand-in for it in backward.

Stock convolution always keeps its input (pytorch issues 42371, 70184, 133566).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from tinytl.memory_efficient.ops.channel_sum import channel_sum
from tinytl.memory_efficient.ops.depthwise import depthwise_weight_grad, taps_are_leaner
from tinytl.memory_efficient.ops.first_derivative import first_derivative
from tinytl.memory_efficient.ops.layout import dense_format
from tinytl.memory_efficient.ops.pointwise import (
    by_matrix_product,
    product_forward,
    product_input_grad,
    product_weight_grad,
)
from tinytl.memory_efficient.ops.precision import autocast_dtype, gradient_wanted, without_autocast

Size = tuple[int, int]
_VALID: Size = (0, 0)


@dataclass(frozen=True, kw_only=True)
class ConvSpec:
    """What a 2d convolution does besides its weight: all pairs are (height, width)."""

    stride: Size = (1, 1)
    padding: Size = (0, 0)
    dilation: Size = (1, 1)
    groups: int = 1
    same_pad: bool = False
    """Pad as TensorFlow does, by the map's size, the odd pixel right and below; `padding` is unused."""

    @cached_property
    def reads_pixels_alone(self) -> bool:
        """Whether a kernel of 1 x 1 makes this a product of the map, as a matrix, and the weight."""
        return self.groups == 1 and self.stride == (1, 1) and (self.same_pad or self.padding == _VALID)

    def sides(self, size: Size, kernel: Size) -> tuple[int, int, int, int]:
        """Returns the padding (left, right, top, bottom) of a map of `size`."""
        if not self.same_pad:
            (down, right) = self.padding
            return right, right, down, down
        sides: list[int] = []
        for pixels, taps, stride in zip(reversed(size), reversed(kernel), reversed(self.stride), strict=True):
            total = max((-(-pixels // stride) - 1) * stride + taps - pixels, 0)
            sides += [total // 2, total - total // 2]
        return sides[0], sides[1], sides[2], sides[3]

    def output_size(self, size: Size, kernel: Size) -> Size:
        """Returns the size of the output map."""
        left, right, top, bottom = self.sides(size, kernel)
        padded = (size[0] + top + bottom, size[1] + left + right)
        last = [p - d * (k - 1) - 1 for p, d, k in zip(padded, self.dilation, kernel, strict=True)]
        return last[0] // self.stride[0] + 1, last[1] // self.stride[1] + 1


def conv_forward(x: Tensor, weight: Tensor, bias: Tensor | None, spec: ConvSpec) -> Tensor:
    """Convolves `(N, C, H, W)`; a one-sided padding is made as a temporary. The result may be a view."""
    if _is_product(spec, x, weight):
        return product_forward(x, weight, bias)
    x, padding = _pad(x, weight, spec)
    return F.conv2d(x, weight, bias, spec.stride, padding, spec.dilation, spec.groups)


def conv_input_grad(grad: Tensor, weight: Tensor, spec: ConvSpec, size: Size) -> Tensor:
    """Returns the gradient `(N, C, *size)` of the convolution's input, in new memory, dense; maybe a view.

    Needs neither the input nor a stand-in for it; torch's kernel would allocate a whole one.
    """
    if _is_product(spec, grad, weight):
        return product_input_grad(grad, weight)
    kernel = (weight.shape[2], weight.shape[3])
    left, right, top, bottom = spec.sides(size, kernel)
    if (left, top) != (right, bottom):
        padded = (size[0] + top + bottom, size[1] + left + right)
        whole = _input_grad(grad, weight, spec, padded, _VALID)
        part = whole[:, :, top : top + size[0], left : left + size[1]]
        return part.contiguous(memory_format=dense_format(whole))
    return _input_grad(grad, weight, spec, size, (top, left))


def conv_weight_grad(grad: Tensor, x: Tensor, weight: Tensor, spec: ConvSpec) -> Tensor:
    """Returns the gradient of the weight, shaped as the weight and typed as `grad`."""
    if _is_product(spec, x, weight) and by_matrix_product(grad, weight):
        return product_weight_grad(grad, x)
    (down, right), kernel = spec.stride, (weight.shape[2], weight.shape[3])
    if kernel == (1, 1) and spec.stride != (1, 1) and not any(spec.sides((x.shape[2], x.shape[3]), kernel)):
        # Of few channels in channels_last torch 2.15 ends the process here on a CPU.
        seen = x[:, :, ::down, ::right].contiguous(memory_format=dense_format(x))
        return conv_weight_grad(grad, seen, weight, replace(spec, stride=(1, 1)))
    if taps_are_leaner(grad, x, weight, spec.groups, spec.stride[1]):
        sides = spec.sides((x.shape[2], x.shape[3]), (weight.shape[2], weight.shape[3]))
        return depthwise_weight_grad(grad, x, weight, sides, spec.stride, spec.dilation)
    x, padding = _pad(x, weight, spec)
    grads = torch.ops.aten.convolution_backward(
        grad,
        x,
        weight,
        None,
        spec.stride,
        padding,
        spec.dilation,
        False,
        _VALID,
        spec.groups,
        [False, True, False],
    )
    return cast(Tensor, grads[1])


class Kernels(NamedTuple):
    """What computes a kind of convolution and its gradients."""

    forward: Callable[[Tensor, Tensor, Tensor | None, Any], Tensor]
    """Of input, weight, bias and spec."""
    input_grad: Callable[[Tensor, Tensor, Any, Any], Tensor]
    """Of the output's gradient, weight, spec and the size of the input's maps."""
    weight_grad: Callable[[Tensor, Tensor, Tensor, Any], Tensor]
    """Of the output's gradient, input, weight and spec."""


def lean_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, spec: ConvSpec) -> Tensor:
    """Convolves `(N, C, H, W)` as `lean_conv` does."""
    return lean_conv(x, weight, bias, spec, _KERNELS)


def lean_conv(x: Tensor, weight: Tensor, bias: Tensor | None, spec: Any, kernels: Kernels) -> Tensor:
    """Convolves `(N, C, ...)` under autograd, keeping `x` only if `weight` trains.

    Under autocast it computes and returns autocast's type, as torch's own does.
    """
    dtype = autocast_dtype(x)
    if dtype is not None:
        x, weight = x.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    with without_autocast(x):
        if not gradient_wanted(x, weight, bias):
            return kernels.forward(x, weight, bias, spec).detach()
        return cast(Tensor, ConvFunction.apply(x, weight, bias, spec, kernels))


class ConvFunction(torch.autograd.Function):
    """Convolution of `(N, C, ...)`; use `lean_conv`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, spec: Any, kernels: Kernels
    ) -> Tensor:
        """Keeps the weight if the input needs a gradient, the input if the weight does."""
        needs_x, needs_weight = ctx.needs_input_grad[:2]
        ctx.spec, ctx.kernels, ctx.size = spec, kernels, tuple(x.shape[2:])
        # The weight gradient needs the weight's shape; the parameter itself costs nothing to keep.
        ctx.save_for_backward(x if needs_weight else None, weight if needs_x or needs_weight else None)
        return kernels.forward(x, weight, bias, spec).detach()  # may be edited in place, which a view may not

    @staticmethod
    @first_derivative
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients of x, weight and bias that are needed."""
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        kernels: Kernels = ctx.kernels
        return (
            kernels.input_grad(grad, weight, ctx.spec, ctx.size).detach() if needs_x else None,
            kernels.weight_grad(grad, x, weight, ctx.spec) if needs_weight else None,
            channel_sum(grad) if needs_bias else None,
            None,
            None,
        )


_KERNELS = Kernels(conv_forward, conv_input_grad, conv_weight_grad)


def _is_product(spec: ConvSpec, x: Tensor, weight: Tensor) -> bool:
    return spec.reads_pixels_alone and weight.shape[2:] == (1, 1) and by_matrix_product(x, weight)


def _input_grad(grad: Tensor, weight: Tensor, spec: ConvSpec, size: Size, padding: Size) -> Tensor:
    kernel = (weight.shape[2], weight.shape[3])
    in_64_bits = grad.dtype is torch.float64  # which oneDNN does not have
    reach = tuple(d * (k - 1) for d, k in zip(spec.dilation, kernel, strict=True))
    strided = spec.stride != (1, 1)
    if kernel == (1, 1) and padding == _VALID and spec.groups == 1 and not (strided and in_64_bits):
        # The transposed kernel of oneDNN holds a second copy of a 1x1 result; the plain one does not.
        dense = F.conv2d(grad, weight.transpose(0, 1))
        if not strided:
            return dense
        shape = (grad.shape[0], weight.shape[1], *size)
        whole = torch.empty(
            shape, dtype=grad.dtype, device=grad.device, memory_format=dense_format(dense)
        ).zero_()
        whole[:, :, :: spec.stride[0], :: spec.stride[1]] = dense
        return whole
    extra = [
        size[i] - ((grad.shape[2 + i] - 1) * spec.stride[i] - 2 * padding[i] + reach[i] + 1) for i in (0, 1)
    ]
    return F.conv_transpose2d(grad, weight, None, spec.stride, padding, extra, spec.groups, spec.dilation)


def _pad(x: Tensor, weight: Tensor, spec: ConvSpec) -> tuple[Tensor, Size]:
    left, right, top, bottom = spec.sides((x.shape[2], x.shape[3]), (weight.shape[2], weight.shape[3]))
    if (left, top) == (right, bottom):
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom)), _VALID
