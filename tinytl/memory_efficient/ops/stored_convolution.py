"""Convolution by a stored weight (`networks.stored_weights`): no float copy of it is kept for backward."""

from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from tinytl.memory_efficient.ops.channel_sum import channel_sum
from tinytl.memory_efficient.ops.convolution import (
    ConvSpec,
    conv_forward,
    conv_input_grad,
    conv_weight_grad,
)
from tinytl.memory_efficient.ops.first_derivative import first_derivative
from tinytl.memory_efficient.ops.pointwise import pick_channels
from tinytl.memory_efficient.ops.precision import autocast_dtype, cast_to, gradient_wanted, without_autocast
from tinytl.networks.stored_weights import StoredForm


def lean_stored_conv2d(
    x: Tensor, stored: StoredForm, part: Tensor | None, bias: Tensor | None, spec: ConvSpec
) -> Tensor:
    """Convolves `(N, C, H, W)` under autograd, keeping of `x` only the channels that train.

    `part` holds the trained channels of the weight. Under autocast it computes and returns autocast's type.
    """
    dtype = autocast_dtype(x) or x.dtype
    x, bias = cast_to(x, dtype), None if bias is None else cast_to(bias, dtype)
    with without_autocast(x):
        if not gradient_wanted(x, part, bias):
            return conv_forward(x, cast_to(stored.whole(part), dtype), bias, spec).detach()
        return cast(Tensor, StoredConv2dFunction.apply(x, part, bias, stored, spec))


class StoredConv2dFunction(torch.autograd.Function):
    """Convolution of `(N, C, H, W)` by a stored weight; use `lean_stored_conv2d`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, part: Tensor | None, bias: Tensor | None, stored: StoredForm, spec: ConvSpec
    ) -> Tensor:
        """Keeps the input's trained channels if the part needs a gradient, and no float weight."""
        chosen = None
        if ctx.needs_input_grad[1]:
            assert stored.trained is not None
            chosen = pick_channels(x, stored.trained.chosen)
        ctx.spec, ctx.size, ctx.stored = spec, (x.shape[2], x.shape[3]), stored
        ctx.save_for_backward(chosen, part)
        y = conv_forward(x, cast_to(stored.whole(part), x.dtype), bias, spec)
        return y.detach()  # may be edited in place, which a view may not

    @staticmethod
    @first_derivative
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients of x, part and bias that are needed."""
        chosen, part = ctx.saved_tensors
        stored, spec = cast(StoredForm, ctx.stored), cast(ConvSpec, ctx.spec)
        needs_x, needs_part, needs_bias, *_ = ctx.needs_input_grad
        of_x = of_part = None
        if needs_x:
            weight = cast_to(stored.whole(part), grad.dtype)
            of_x = conv_input_grad(grad, weight, spec, ctx.size).detach()
            del weight
        if needs_part:
            of_part = part_grad(grad, chosen, part, stored, spec)
        return of_x, of_part, channel_sum(grad) if needs_bias else None, None, None


def part_grad(grad: Tensor, chosen: Tensor, part: Tensor, stored: StoredForm, spec: ConvSpec) -> Tensor:
    """Returns the gradient of the trained part of a weight, typed as the part.

    `chosen`: the trained channels of the convolution's input.
    """
    assert stored.trained is not None
    if stored.trained.dim == 0:  # depthwise
        grad, spec = pick_channels(grad, stored.trained.chosen), replace(spec, groups=part.shape[0])
    return cast_to(conv_weight_grad(grad, chosen, cast_to(part, grad.dtype), spec), part.dtype)
