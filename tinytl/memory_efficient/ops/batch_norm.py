"""Batch norm in training mode, on the whole batch: it keeps its input and two numbers per channel.

The output, the activation's mask and x̂ = (x - mean) rstd are element-wise functions of the input and the
statistics, so they are not kept beside it. The input's gradient is gamma rstd (g - mean(g) - x̂ mean(g x̂)).
Source: Batch Normalization, Ioffe and Szegedy 2015.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from tinytl.memory_efficient.ops.group_norm import NormGrads
from tinytl.memory_efficient.ops.precision import cast_to

AT_A_TIME_BYTES = 5 * 2**20
"""So much of a map is worked on at a time if a temporary of its size is needed, but at least one sample."""


class BatchStats(NamedTuple):
    """Mean and reciprocal standard deviation of each channel, `(C,)`."""

    mean: Tensor
    rstd: Tensor


class Running(NamedTuple):
    """A batch norm's running statistics `(C,)`, which training updates; None if it has none."""

    mean: Tensor | None
    var: Tensor | None
    momentum: float


def normalise_batch(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, running: Running, eps: float
) -> tuple[Tensor, BatchStats]:
    """Returns the normalised `(N, C, H, W)`, in new memory, and the batch's statistics.

    Updates the running statistics, by the same kernel as the stock module.

    Raises:
        ValueError: for one value per channel, as the stock module.
    """
    if x.numel() == x.shape[1]:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.size()}")
    y, mean, rstd = torch.native_batch_norm(
        x, gamma, beta, running.mean, running.var, True, running.momentum, eps
    )
    return y, BatchStats(mean, rstd)


def normalise_batch_again(x: Tensor, gamma: Tensor | None, beta: Tensor | None, stats: BatchStats) -> Tensor:
    """Returns the normalised `(N, C, H, W)` from statistics that are known, in new memory."""
    scale = stats.rstd if gamma is None else stats.rstd * gamma
    shift = stats.mean * scale
    shift = shift.neg_() if beta is None else beta - shift
    return torch.addcmul(_per_channel(shift, x), x, _per_channel(scale, x))


def normalise_batch_grads(
    grad: Tensor,
    x: Tensor,
    gamma: Tensor | None,
    stats: BatchStats,
    needs: tuple[bool, bool, bool],
    out: Tensor | None = None,
) -> NormGrads:
    """Returns gradients of (x, gamma, beta) as `needs` asks; that of x in `out`, which may be `grad`, or in
    new memory.
    """
    wide = stats.rstd.dtype
    total = grad.sum((0, 2, 3), dtype=wide)
    along = (_sum_of_products(grad, x, wide) - stats.mean * total) * stats.rstd
    result = None
    if needs[0]:
        count = x.numel() // x.shape[1]
        scale = stats.rstd if gamma is None else stats.rstd * gamma
        by_x = -scale * stats.rstd * along / count
        constant = -scale * total / count - by_x * stats.mean
        if out is None:
            result = grad * _per_channel(scale, x)
        else:
            result = torch.mul(grad, _per_channel(scale, x), out=out)
        result.addcmul_(x, _per_channel(by_x, x)).add_(_per_channel(constant, x))
    return NormGrads(result, along if needs[1] else None, total if needs[2] else None)


def some_at_a_time(x: Tensor) -> list[slice]:
    """Returns slices of the samples of `x`, each of at most `AT_A_TIME_BYTES`, if one sample is."""
    step = max(1, AT_A_TIME_BYTES // max(1, x[0].numel() * x.element_size()))
    return [slice(start, start + step) for start in range(0, len(x), step)]


def _sum_of_products(grad: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns the sum of `grad` x `x` over `(N, H, W)`, a few samples at a time."""
    sums = [(grad[rows] * x[rows]).sum((0, 2, 3), dtype=dtype) for rows in some_at_a_time(x)]
    return sums[0] if len(sums) == 1 else torch.stack(sums).sum(0)


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    return cast_to(values, x.dtype).view(-1, 1, 1)
