"""A whole block as one autograd function: chains of units that start at one input and end in one sum.

An inverted residual is a chain with a shortcut; its lite branch is a second chain, on a pooled input, resized
to the first one's output. One function owns all intermediates. So masks are bits, edits happen in place, and
the batch is walked in slices: no intermediate is larger than a slice's, and a slice stays in the processor's
cache. A block with batch statistics, under which samples depend on each other, is one slice.
Source: MobileNetV2 (Sandler et al. 2018); TinyTL (Cai et al. 2020), section 3.2.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from tinytl.memory_efficient.block.chain import Chain, ChainGrads
from tinytl.memory_efficient.block.slice import Branch, SliceKept, from_tensors, slice_backward, slice_forward
from tinytl.memory_efficient.block.spec import BlockSpec, Execution
from tinytl.memory_efficient.block.unit import ChainPlan, Needs, Recompute, UnitTensors, plan_chain
from tinytl.memory_efficient.ops.first_derivative import first_derivative
from tinytl.memory_efficient.ops.layout import channels_last, convolution_format, empty_like, memory_format
from tinytl.memory_efficient.ops.precision import autocast_dtype, cast_to, gradient_wanted, without_autocast

_PER_UNIT = len(UnitTensors._fields)
_BEFORE = 4
"""Arguments of BlockFunction before the tensors."""


def run_block(x: Tensor, spec: BlockSpec, tensors: Sequence[Sequence[UnitTensors]], how: Execution) -> Tensor:
    """Runs the block on `(N, C, H, W)` under autograd; `tensors`: a sequence per branch, an entry per unit.

    The output lies in the format in which stock convolutions would answer, and has autocast's type under
    autocast. Which tensors need a gradient now decides what is kept for backward.
    """
    dtype = autocast_dtype(x) or x.dtype
    if spec.uses_batch_statistics and how.recompute == "block":
        how = replace(
            how, recompute="depthwise"
        )  # a second forward would update the running statistics again
    row = [tensor for branch in tensors for unit in branch for tensor in unit]
    with without_autocast(x):
        if gradient_wanted(x, *row):
            return cast(Tensor, BlockFunction.apply(x, spec, how, dtype, *row))
        branches = _branches(spec, tensors, dtype, [None] * len(tensors))
        return _forward(x, spec, branches, _slices(x, spec, branches, how), keeps=False, keeps_x=False)[0]


class BlockFunction(torch.autograd.Function):
    """A block under autograd; use `run_block`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, spec: BlockSpec, how: Execution, dtype: torch.dtype, *row: Tensor | None
    ) -> Tensor:
        """Keeps the input only if backward reads it, and of each unit what its plan says."""
        plans = _plans(spec, ctx.needs_input_grad, how.recompute)
        branches = _branches(spec, _grouped(row, spec), dtype, plans)
        ctx.replays = how.recompute == "block"
        keeps_x = ctx.replays or any(
            plan is not None and plan.keeps_x and not branch.pools
            for plan, branch in zip(plans, spec.branches, strict=True)
        )
        ctx.slices = _slices(x, spec, branches, how)
        y, kept = _forward(x, spec, branches, ctx.slices, not ctx.replays, keeps_x)
        ctx.spec, ctx.dtype, ctx.shape, ctx.x_dtype = spec, dtype, x.shape, x.dtype
        ctx.form = memory_format(x)
        ctx.branches = branches
        for branch in branches:
            branch.chain.let_go()
        read = _without_running(row, spec)
        ctx.save_for_backward(x if keeps_x else None, *read, *(t for one in kept for t in one.tensors()))
        return y

    @staticmethod
    @first_derivative
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Walks the slices; returns the gradient of the input and of every tensor that needs one."""
        x, *rest = ctx.saved_tensors
        n_tensors = len(ctx.needs_input_grad) - _BEFORE
        branches = cast(list[Branch], ctx.branches)
        for branch, tensors in zip(branches, _grouped(rest[:n_tensors], ctx.spec), strict=True):
            branch.chain.tensors = tensors
        kept = from_tensors(rest[n_tensors:], len(ctx.slices), ctx.spec)
        sums = [ChainGrads(len(branch.chain.specs)) for branch in branches]
        whole: Tensor | None = None
        followed = _followed(ctx.slices, grad)
        for index, ((start, stop), kept_of_slice) in enumerate(zip(ctx.slices, kept, strict=True)):
            if index not in followed:
                continue
            made = slice_backward(
                channels_last(cast_to(grad[start:stop], ctx.dtype)),
                None if x is None else channels_last(cast_to(x[start:stop], ctx.dtype)),
                (ctx.shape[2], ctx.shape[3]),
                ctx.spec,
                branches,
                kept_of_slice,
                sums,
                ctx.replays,
            )
            if made is None:
                continue
            made = cast_to(made, ctx.x_dtype)
            if len(ctx.slices) == 1:
                whole = made.contiguous(memory_format=ctx.form)
                break
            if whole is None:
                whole = empty_like(ctx.shape, made, ctx.form)
            whole[start:stop] = made
        parameter_grads = _parameter_grads(branches, sums)
        for branch in branches:
            branch.chain.let_go()
        return whole, None, None, None, *parameter_grads


def _forward(
    x: Tensor,
    spec: BlockSpec,
    branches: list[Branch],
    slices: list[tuple[int, int]],
    keeps: bool,
    keeps_x: bool,
) -> tuple[Tensor, list[SliceKept]]:
    whole: Tensor | None = None
    kept: list[SliceKept] = []
    main = branches[0].chain
    dtype, form = main.dtype, convolution_format(x, (unit.weight for unit in main.tensors))
    followed = _followed(slices, x)
    for index, (start, stop) in enumerate(slices):
        if index not in followed:
            kept.append(kept[0].another())
            continue
        part = channels_last(cast_to(x[start:stop], dtype))
        y, kept_of_slice = slice_forward(part, spec, branches, keeps, keeps_x)
        kept.append(kept_of_slice)
        if len(slices) == 1:
            return y.contiguous(memory_format=form), kept
        if whole is None:
            whole = empty_like((x.shape[0], *y.shape[1:]), y, form)
        whole[start:stop] = y
    assert whole is not None
    return whole, kept


def largest_intermediate(
    spec: BlockSpec, tensors: Sequence[Sequence[UnitTensors]], size: tuple[int, int]
) -> int:
    """Returns the elements per sample of the largest unit's output, for an input map of `size`."""
    return _largest(_branches(spec, tensors, torch.float32, [None] * len(tensors)), size)


def _largest(branches: list[Branch], size: tuple[int, int]) -> int:
    return max(chain.largest_output(spec.pooled_size(size)) for spec, chain in branches)


def _slices(x: Tensor, spec: BlockSpec, branches: list[Branch], how: Execution) -> list[tuple[int, int]]:
    """Returns (start, stop) of slices of the batch whose largest intermediate stays within `slice_mib`."""
    if spec.uses_batch_statistics:
        return [(0, x.shape[0])]
    largest = _largest(branches, (x.shape[2], x.shape[3]))
    # A map smaller than the kernel has no output: torch reports it.
    step = max(1, how.slice_bytes(x.device) // (max(1, largest) * branches[0].chain.dtype.itemsize))
    n = x.shape[0]
    return [(start, min(start + step, n)) for start in range(0, n, step)]


def _followed(slices: list[tuple[int, int]], like: Tensor) -> Collection[int]:
    """Returns the slices to run: all, or on fake tensors, which compute nothing, one per size.

    The first creates what all share, the last full one runs beside most kept memory, the last may be smaller.
    """
    n = len(slices)
    return (0, n - 2, n - 1) if isinstance(like, FakeTensor) else range(n)


def _branches(
    spec: BlockSpec,
    tensors: Sequence[Sequence[UnitTensors]],
    dtype: torch.dtype,
    plans: Sequence[ChainPlan | None],
) -> list[Branch]:
    return [
        Branch(branch, Chain(branch.units, units, dtype, plan))
        for branch, units, plan in zip(spec.branches, tensors, plans, strict=True)
    ]


@lru_cache(maxsize=1024)
def _plans(spec: BlockSpec, asked: tuple[bool, ...], recompute: Recompute) -> list[ChainPlan | None]:
    plans = []
    start = _BEFORE
    for branch in spec.branches:
        stop = start + _PER_UNIT * len(branch.units)
        needs = [Needs(*asked[i : i + 4]) for i in range(start, stop, _PER_UNIT)]
        plans.append(plan_chain(branch.units, needs, asked[0], recompute))
        start = stop
    return plans


def _grouped(row: Sequence[Tensor | None], spec: BlockSpec) -> list[list[UnitTensors]]:
    groups = []
    start = 0
    for branch in spec.branches:
        stop = start + _PER_UNIT * len(branch.units)
        groups.append([UnitTensors(*row[i : i + _PER_UNIT]) for i in range(start, stop, _PER_UNIT)])  # type: ignore[arg-type]
        start = stop
    return groups


def _without_running(row: Sequence[Tensor | None], spec: BlockSpec) -> list[Tensor | None]:
    """Returns the tensors without the running statistics that training updates and backward does not read."""
    kept: list[Tensor | None] = []
    units = (unit for branch in spec.branches for unit in branch.units)
    for unit, tensors in zip(units, (t for branch in _grouped(row, spec) for t in branch), strict=True):
        kept += tensors._replace(mean=None, var=None) if unit.norm == "batch" else tensors
    return kept


def _parameter_grads(branches: list[Branch], sums: list[ChainGrads]) -> list[Tensor | None]:
    row: list[Tensor | None] = []
    for (_, chain), grads in zip(branches, sums, strict=True):
        n_units = len(chain.specs)
        made = [None] * (4 * n_units) if chain.plan is None else chain.parameter_grads(grads)
        for unit in range(n_units):
            row += [*made[4 * unit : 4 * unit + 4], None, None]
    return row
