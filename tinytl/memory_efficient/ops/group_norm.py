"""Group norm fused with its activation: keeps its input and two numbers per group, recomputes the rest.

Its input gradient needs x, because the statistics depend on x; the output, the activation's mask and x̂ are
element-wise functions of x and the statistics, so they are not kept beside it.
Source: Group Normalization, Wu and He 2018.
"""

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from tinytl.device import takes_cpu_path
from tinytl.memory_efficient.ops.activation import activate_, activation_grad
from tinytl.memory_efficient.ops.first_derivative import first_derivative
from tinytl.memory_efficient.ops.layout import dense_format
from tinytl.memory_efficient.ops.precision import cast_to, gradient_wanted
from tinytl.networks.group_norm import NEEDS_INPUT_GRADIENT

_SMALL_MAP = 1 << 16
"""Elements under which the whole norm, one call, takes less time than the calls that only apply it."""


class GroupStats(NamedTuple):
    """Mean and reciprocal standard deviation of each sample's groups, `(N, G)`."""

    mean: Tensor
    rstd: Tensor


class NormGrads(NamedTuple):
    """Gradients of input, gamma and beta; None if not asked for."""

    x: Tensor | None
    gamma: Tensor | None
    beta: Tensor | None


def normalise(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, n_groups: int, eps: float
) -> tuple[Tensor, GroupStats]:
    """Returns the normalised `(N, C, H, W)`, in new memory, and the statistics."""
    if takes_cpu_path(x):
        samples, channels, height, width = x.shape
        gamma, beta = _like(gamma, x), _like(beta, x)
        y, mean, rstd = torch.native_group_norm(
            x, gamma, beta, samples, channels, height * width, n_groups, eps
        )
        return y, GroupStats(mean, rstd)
    return _normalise_by_sums(x, gamma, beta, n_groups, eps)


def normalise_again(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, stats: GroupStats, eps: float
) -> Tensor:
    """Returns the normalised `(N, C, H, W)` from statistics that are known, in new memory."""
    if x.numel() < _SMALL_MAP and takes_cpu_path(x):
        return normalise(x, gamma, beta, stats.mean.shape[1], eps)[0]
    scale, shift = _affine(x.shape[1], gamma, beta, stats)
    return torch.addcmul(cast_to(shift, x.dtype), x, cast_to(scale, x.dtype))


def normalise_grads(
    grad: Tensor, x: Tensor, gamma: Tensor | None, stats: GroupStats, needs: tuple[bool, bool, bool]
) -> NormGrads:
    """Returns gradients of (x, gamma, beta) as `needs` asks, in new memory."""
    samples, channels, height, width = x.shape
    n_groups = stats.mean.shape[1]
    if takes_cpu_path(x) and (needs[0] or not NEEDS_INPUT_GRADIENT):
        grads = torch.ops.aten.native_group_norm_backward(
            grad, x, *stats, _like(gamma, x), samples, channels, height * width, n_groups, needs
        )
        return NormGrads(*(g if need else None for g, need in zip(grads, needs, strict=True)))
    return _grads_by_sums(grad, x, gamma, stats, needs)


def lean_group_norm(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, n_groups: int, eps: float, activation: str = "none"
) -> Tensor:
    """Group norm of `(N, C, H, W)`, then the activation, under autograd; computes in `x`'s type."""
    if not gradient_wanted(x, gamma, beta):
        return activate_(normalise(_whole(x), gamma, beta, n_groups, eps)[0], activation)
    return cast(Tensor, GroupNormFunction.apply(x, gamma, beta, n_groups, eps, activation))


class GroupNormFunction(torch.autograd.Function):
    """Group norm and activation under autograd; use `lean_group_norm`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gamma: Tensor | None,
        beta: Tensor | None,
        n_groups: int,
        eps: float,
        activation: str,
    ) -> Tensor:
        """Keeps the input, the statistics and the parameters."""
        ctx.activation, ctx.eps = activation, eps
        x = _whole(x)
        y, stats = normalise(x, gamma, beta, n_groups, eps)
        ctx.save_for_backward(x, gamma, beta, *stats)
        return activate_(y, activation)

    @staticmethod
    @first_derivative
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Recomputes the activation's mask, element by element."""
        x, gamma, beta, mean, rstd = ctx.saved_tensors
        stats = GroupStats(mean, rstd)
        grad = grad.contiguous(memory_format=dense_format(x))
        if ctx.activation != "none":
            again = normalise_again(x, gamma, beta, stats, ctx.eps)
            grad = activation_grad(grad, again, ctx.activation, out=again)
        needs = (ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.needs_input_grad[2])
        return *normalise_grads(grad, x, gamma, stats, needs), None, None, None


def _normalise_by_sums(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, n_groups: int, eps: float
) -> tuple[Tensor, GroupStats]:
    # Here torch's own kernel accepts contiguous memory only, and would copy channels_last. `var_mean` reads x
    # once. Sums of x and of its squares have faster kernels, but lose as many digits as a mean is larger than
    # its deviation, and to shift x first needs a map more and two passes more.
    parts = x.permute(0, 2, 3, 1).unflatten(3, (n_groups, -1))
    var, mean = torch.var_mean(parts.float() if x.dtype.itemsize < 4 else parts, (1, 2, 4), correction=0)
    stats = GroupStats(mean, torch.rsqrt(var + eps))
    return normalise_again(x, gamma, beta, stats, eps), stats


def _grads_by_sums(
    grad: Tensor, x: Tensor, gamma: Tensor | None, stats: GroupStats, needs: tuple[bool, bool, bool]
) -> NormGrads:
    samples, channels, height, width = x.shape
    n_groups = stats.mean.shape[1]
    wide = torch.float32 if x.dtype.itemsize < 4 else x.dtype
    of_grad = grad.sum((2, 3), dtype=wide).view(samples, n_groups, -1)
    of_product = (grad * x).sum((2, 3), dtype=wide).view(samples, n_groups, -1)
    mean, rstd = stats.mean.to(wide)[:, :, None], stats.rstd.to(wide)[:, :, None]
    along = (of_product - mean * of_grad) * rstd
    result = None
    if needs[0]:
        weight = torch.ones_like(of_grad[0]) if gamma is None else gamma.to(wide).view(n_groups, -1)
        count = height * width * channels // n_groups
        towards = (along * weight).sum(2, keepdim=True) * rstd.square() / count
        level = (of_grad * weight).sum(2, keepdim=True) * rstd / count
        per_channel = (samples, channels, 1, 1)
        by_x = (-towards).expand_as(of_grad).reshape(per_channel).to(x.dtype)
        constant = (towards * mean - level).expand_as(of_grad).reshape(per_channel).to(x.dtype)
        result = grad * (weight * rstd).view(per_channel).to(x.dtype)
        result.addcmul_(x, by_x).add_(constant)
    sums = (along.sum(0).view(-1), of_grad.sum(0).view(-1))
    return NormGrads(result, sums[0] if needs[1] else None, sums[1] if needs[2] else None)


def _affine(
    channels: int, gamma: Tensor | None, beta: Tensor | None, stats: GroupStats
) -> tuple[Tensor, Tensor]:
    """Returns scale and shift, `(N, C, 1, 1)`."""
    samples, n_groups = stats.mean.shape
    mean, scale = stats.mean[:, :, None], stats.rstd[:, :, None]
    if gamma is not None:
        scale = scale * gamma.view(n_groups, -1)
    else:
        scale = scale.expand(samples, n_groups, channels // n_groups)
    shift = mean * scale
    shift = shift.neg_() if beta is None else beta.view(n_groups, -1) - shift
    return scale.reshape(samples, channels, 1, 1), shift.view(samples, channels, 1, 1)


def _like(parameter: Tensor | None, x: Tensor) -> Tensor | None:
    return None if parameter is None else cast_to(parameter, x.dtype)


def _whole(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=dense_format(x))
