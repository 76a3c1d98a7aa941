"""The idea of memsave_torch, for comparison: a layer keeps for backward only what `requires_grad` asks for.

A frozen weight needs no input, ReLU a mask, max pooling its indices. Source: Bhatia and Dangel, Lowering
PyTorch's Memory Consumption for Selective Differentiation (arXiv 2404.12406), whose package is in no index;
written anew from the paper: convolution, batch norm in evaluation mode, ReLU and max pooling, as there.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

SUMMED = (0, 2, 3)
"""All dimensions of a map but its channels."""


class Convolution(Function):
    """Keeps the input only for the weight's gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *how: Any) -> Tensor:
        """`how`: stride, padding, dilation and groups."""
        trains_before, trains_here = ctx.needs_input_grad[:2]
        ctx.save_for_backward(x if trains_here else None, weight if trains_before else None)
        ctx.shapes, ctx.how = (x.shape, weight.shape), how
        return F.conv2d(x, weight, bias, *how)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients that are wanted."""
        x, weight = (
            grad.new_empty(1).expand(shape) if kept is None else kept  # a stand-in has the shape alone
            for kept, shape in zip(ctx.saved_tensors, ctx.shapes, strict=True)
        )
        stride, padding, dilation, groups = ctx.how
        found = torch.ops.aten.convolution_backward(
            grad, x, weight, [len(weight)], stride, padding, dilation, False, (0, 0), groups,
            ctx.needs_input_grad[:3],
        )  # fmt: skip
        return *found, *[None] * len(ctx.how)


class EvalBatchNorm(Function):
    """Keeps the input only for the weight's gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, *statistics: Any) -> Tensor:
        """`statistics`: mean, variance and epsilon."""
        mean, var, eps = statistics
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight, mean, var)
        ctx.eps = eps
        return F.batch_norm(x, mean, var, weight, bias, eps=eps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients that are wanted."""
        x, weight, mean, var = ctx.saved_tensors
        of_x = of_weight = of_bias = None
        if x is not None:
            of_x, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
                grad, x, weight, mean, var, None, None, False, ctx.eps, ctx.needs_input_grad[:3]
            )
        elif ctx.needs_input_grad[0]:
            of_x = grad * (weight * torch.rsqrt(var + ctx.eps))[:, None, None]
        if ctx.needs_input_grad[2] and of_bias is None:
            of_bias = grad.sum(SUMMED)
        return of_x, of_weight, of_bias, None, None, None


class MaskedReLU(Function):
    """Keeps a byte per element."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Returns what is above zero."""
        mask = x > 0
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """Returns the input's gradient."""
        return grad * ctx.saved_tensors[0]


class MaxPool(Function):
    """Keeps the indices, not the input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *how: Any) -> Tensor:
        """`how`: kernel, stride, padding, dilation, ceil_mode."""
        out, indices = torch.ops.aten.max_pool2d_with_indices(x, *how)
        ctx.save_for_backward(indices)
        ctx.shape, ctx.how = x.shape, how
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the input's gradient; a stand-in of the input has its shape."""
        (indices,) = ctx.saved_tensors
        x = torch.empty(ctx.shape, dtype=grad.dtype, memory_format=torch.channels_last)
        of_x = torch.ops.aten.max_pool2d_with_indices_backward(grad, x, *ctx.how, indices)
        return of_x, *[None] * len(ctx.how)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _convolve(module: nn.Conv2d, x: Tensor) -> Tensor:
    how = (module.stride, module.padding, module.dilation, module.groups)
    return Convolution.apply(x, module.weight, module.bias, *how)


def _norm(module: nn.BatchNorm2d, x: Tensor) -> Tensor:
    statistics = (module.running_mean, module.running_var, module.eps)
    out = EvalBatchNorm.apply(x, module.weight, module.bias, *statistics)
    return module.act(module.drop(out)) if hasattr(module, "act") else out  # timm's BatchNormAct2d


def _pool(module: nn.MaxPool2d, x: Tensor) -> Tensor:
    sizes = (module.kernel_size, module.stride, module.padding, module.dilation)
    return MaxPool.apply(x, *map(_pair, sizes), module.ceil_mode)


def _rectify(module: nn.ReLU, x: Tensor) -> Tensor:
    return MaskedReLU.apply(x)


def save_selectively_(net: nn.Module) -> nn.Module:
    """Changes how the layers that memsave_torch knows run, in place; batch norm in evaluation mode."""
    for module in net.modules():
        if type(module) is nn.Conv2d and isinstance(module.padding, tuple):
            module.forward = partial(_convolve, module)
        elif isinstance(module, nn.BatchNorm2d) and not module.training:
            module.forward = partial(_norm, module)
        elif type(module) is nn.MaxPool2d:
            module.forward = partial(_pool, module)
        elif type(module) is nn.ReLU:
            module.forward = partial(_rectify, module)
    return net
