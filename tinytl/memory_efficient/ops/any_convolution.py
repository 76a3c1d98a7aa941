"""Convolution of any number of dimensions, transposed or not: keeps its input only if its weight trains.

`ops.convolution` knows more of the plain one of two dimensions, of which mobile networks are made.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from tinytl.memory_efficient.ops.convolution import Kernels, lean_conv

Sizes = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class AnyConvSpec:
    """What a convolution does besides its weight; an entry per dimension."""

    stride: Sizes
    padding: Sizes
    dilation: Sizes
    groups: int = 1
    output_padding: Sizes | None = None
    """Of a transposed convolution, each less than the stride; None for any other."""

    @property
    def transposed(self) -> bool:
        """Whether it is the gradient of a convolution."""
        return self.output_padding is not None


def any_conv(x: Tensor, weight: Tensor, bias: Tensor | None, spec: AnyConvSpec) -> Tensor:
    """Convolves `(N, C, ...)`."""
    added = spec.output_padding or (0,) * len(spec.stride)
    return cast(
        Tensor,
        torch.ops.aten.convolution(
            x, weight, bias, spec.stride, spec.padding, spec.dilation, spec.transposed, added, spec.groups
        ),
    )


def any_conv_input_grad(grad: Tensor, weight: Tensor, spec: AnyConvSpec, size: Sizes) -> Tensor:
    """Returns the gradient `(N, C, *size)` of the input: of a convolution it is a transposed one, and the
    other way round.
    """
    if spec.transposed:
        added = None
    else:
        added = tuple(
            pixels - ((made - 1) * step - 2 * pad + gap * (taps - 1) + 1)
            for pixels, made, step, pad, gap, taps in zip(
                size, grad.shape[2:], spec.stride, spec.padding, spec.dilation, weight.shape[2:], strict=True
            )
        )
    back = AnyConvSpec(
        stride=spec.stride,
        padding=spec.padding,
        dilation=spec.dilation,
        groups=spec.groups,
        output_padding=added,
    )
    return any_conv(grad, weight, None, back)


def any_conv_weight_grad(grad: Tensor, x: Tensor, weight: Tensor, spec: AnyConvSpec) -> Tensor:
    """Returns the gradient of the weight."""
    grads = torch.ops.aten.convolution_backward(
        grad,
        x,
        weight,
        None,
        spec.stride,
        spec.padding,
        spec.dilation,
        spec.transposed,
        spec.output_padding or (0,) * len(spec.stride),
        spec.groups,
        [False, True, False],
    )
    return cast(Tensor, grads[1])


def lean_any_conv(x: Tensor, weight: Tensor, bias: Tensor | None, spec: AnyConvSpec) -> Tensor:
    """Convolves `(N, C, ...)` as `lean_conv` does."""
    return lean_conv(x, weight, bias, spec, _KERNELS)


_KERNELS = Kernels(any_conv, any_conv_input_grad, any_conv_weight_grad)
