"""A whole block, or a run of several, as one autograd function.

A block is chains of units that start at one input and end in one sum: an inverted residual is a chain with a
shortcut; its lite branch is a second chain, on a pooled input, resized to the first one's output. One
function owns all intermediates. So masks are bits, edits happen in place, and the batch is walked in slices:
no intermediate is larger than a slice's, and a slice stays in the processor's cache. A slice walks through
all blocks of a run before the next one begins, so no map between two blocks is the whole batch's. A block
with batch statistics, under which samples depend on each other, is one slice.
Source: MobileNetV2 (Sandler et al. 2018); TinyTL (Cai et al. 2020), section 3.2. MCUNetV2 (Lin et al. 2021)
walks several layers at a time, too, for patches of an image.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor

from tinytl.memory_efficient.block.chain import ChainGrads
from tinytl.memory_efficient.block.slice import Branch, SliceKept, from_tensors, slice_backward, slice_forward
from tinytl.memory_efficient.block.spec import Block, BlockSpec, Execution
from tinytl.memory_efficient.block.unit import ChainPlan, Needs, Recompute, UnitTensors, plan_chain
from tinytl.memory_efficient.block.working import Working, map_sizes, slices_of, slices_to_run, working_block
from tinytl.memory_efficient.ops.first_derivative import first_derivative
from tinytl.memory_efficient.ops.layout import channels_last, convolution_format, empty_like, memory_format
from tinytl.memory_efficient.ops.precision import autocast_dtype, cast_to, gradient_wanted, without_autocast
from tinytl.memory_efficient.ops.walk import WALK, lean_function

Size = tuple[int, int]
_PER_UNIT = len(UnitTensors._fields) - 1
"""Tensors of a unit that are arguments of the function."""
Prepare = Callable[[Tensor], Tensor]
"""Makes the input of the first block, in channels_last, from a slice of what the network is given."""
_BEFORE = 5
"""Arguments of BlockFunction before the tensors."""


def run_blocks(x: Tensor, blocks: Sequence[Block], how: Execution, prepare: Prepare | None = None) -> Tensor:
    """Runs one block, or several one after the other, on `(N, C, H, W)` under autograd.

    With `prepare`, `x` holds what that is given, such as images in bytes, and needs no gradient.

    The output lies in the format in which stock convolutions would answer, and has autocast's type under
    autocast. Which tensors need a gradient now decides what is kept for backward. Recomputing several blocks
    keeps the input of the first alone.
    """
    dtype = autocast_dtype(x) or (blocks[0].tensors[0][0] if prepare else x).dtype
    if how.recompute == "block" and any(block.spec.uses_batch_statistics for block in blocks):
        # A second forward would update the running statistics again.
        how = replace(how, recompute="depthwise")
    units = (unit for block in blocks for branch in block.tensors for unit in branch)
    row = [tensor for unit in units for tensor in unit.row()]
    with without_autocast(x):
        if gradient_wanted(x, *row):
            return cast(Tensor, BlockFunction.apply(x, blocks, how, dtype, prepare, *row))
        working = [working_block(block, dtype, ()) for block in blocks]
        with lean_function():
            return _forward(x, prepare, working, slices_of(x, working, how), keeps=False, keeps_x=False)[0]


class BlockFunction(torch.autograd.Function):
    """Blocks under autograd; use `run_blocks`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        read: Sequence[Block],
        how: Execution,
        dtype: torch.dtype,
        prepare: Prepare | None,
        *row: Tensor | None,
    ) -> Tensor:
        """Keeps the input only if backward reads it, and of each unit what its plan says.

        `row` holds the tensors of the blocks once more, for autograd.
        """
        specs = tuple(block.spec for block in read)
        plans = _plans(specs, ctx.needs_input_grad, how.recompute)
        blocks = [working_block(block, dtype, of_block) for block, of_block in zip(read, plans, strict=True)]
        ctx.replays = how.recompute == "block"
        keeps_x = ctx.replays or blocks[0].reads_x()
        ctx.slices = slices_of(x, blocks, how)
        with lean_function():
            y, kept = _forward(x, prepare, blocks, ctx.slices, not ctx.replays, keeps_x)
        ctx.dtype, ctx.shape, ctx.x_dtype = dtype, x.shape, x.dtype
        ctx.form = memory_format(x)
        ctx.sizes = map_sizes(blocks, (x.shape[2], x.shape[3]))
        ctx.blocks, ctx.prepare = blocks, prepare
        for block in blocks:
            block.let_go()
        ctx.save_for_backward(
            x if keeps_x else None,
            *_without_running(row, read),
            *(t for of_slice in kept for one in of_slice for t in one.tensors()),
        )
        return y

    @staticmethod
    @first_derivative
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Walks the slices; returns the gradient of the input and of every tensor that needs one."""
        x, *rest = ctx.saved_tensors
        n_tensors = len(ctx.needs_input_grad) - _BEFORE
        blocks = cast(list[Working], ctx.blocks)
        specs = [block.spec for block in blocks]
        for block, tensors in zip(blocks, _grouped(rest[:n_tensors], specs), strict=True):
            block.take(tensors)
        kept = from_tensors(rest[n_tensors:], len(ctx.slices), specs)
        sums = [[ChainGrads(len(branch.chain.specs)) for branch in block.branches] for block in blocks]
        with lean_function():
            whole = _walk_back(ctx, grad, x, kept, sums)
            parameter_grads = [
                grad
                for block, of_block in zip(blocks, sums, strict=True)
                for grad in _parameter_grads(block.branches, of_block)
            ]
        for block in blocks:
            block.let_go()
        return whole, None, None, None, None, *parameter_grads


def _part(x: Tensor, start: int, stop: int, dtype: torch.dtype, prepare: Prepare | None) -> Tensor:
    part = x if stop - start == len(x) else x[start:stop]
    return channels_last(cast_to(part if prepare is None else prepare(part), dtype))


def _forward(
    x: Tensor,
    prepare: Prepare | None,
    blocks: list[Working],
    slices: list[tuple[int, int]],
    keeps: bool,
    keeps_x: bool,
) -> tuple[Tensor, list[list[SliceKept]]]:
    whole: Tensor | None = None
    kept: list[list[SliceKept]] = []
    dtype = blocks[0].branches[0].chain.dtype
    form = convolution_format(
        x, (unit.weight for block in blocks for unit in block.branches[0].chain.tensors)
    )
    times = slices_to_run(slices, x)
    for block in blocks:
        block.keep_made(len(slices) > 1)
    for index, (start, stop) in enumerate(slices):
        if index not in times:
            kept.append([of_block.another() for of_block in kept[0]])
            continue
        WALK.times = times[index]
        part = _part(x, start, stop, dtype, prepare)
        y, kept_of_slice = _slice_forward(part, blocks, keeps, keeps_x)
        del part
        kept.append(kept_of_slice)
        if len(slices) == 1:
            # No view: a network may edit what a block returns, as `y += x` and `ReLU(inplace=True)` do.
            whole = y.contiguous(memory_format=form).detach()
            break
        if whole is None:
            whole = empty_like((x.shape[0], *y.shape[1:]), y, form)
        whole[start:stop] = y
    assert whole is not None
    return whole, kept


def _walk_back(
    ctx: Any, grad: Tensor, x: Tensor | None, kept: Iterator[list[SliceKept]], sums: list[list[ChainGrads]]
) -> Tensor | None:
    """Walks the slices back, adding to `sums`; returns the gradient of the input, None if not asked for."""
    whole: Tensor | None = None
    times = slices_to_run(ctx.slices, grad)
    for index, ((start, stop), kept_of_slice) in enumerate(zip(ctx.slices, kept, strict=True)):
        if index not in times:
            continue
        WALK.times = times[index]
        given = grad if stop - start == len(grad) else grad[start:stop]
        part = channels_last(cast_to(given, ctx.dtype))
        made = _backward(
            part,
            part is not given,
            None if x is None else _part(x, start, stop, ctx.dtype, ctx.prepare),
            ctx.sizes,
            ctx.blocks,
            kept_of_slice,
            sums,
            ctx.replays,
        )
        if made is None:
            continue
        made = cast_to(made, ctx.x_dtype)
        if len(ctx.slices) == 1:
            return made.contiguous(memory_format=ctx.form).detach()
        if whole is None:
            whole = empty_like(ctx.shape, made, ctx.form)
        whole[start:stop] = made
    return whole


def _slice_forward(
    x: Tensor, blocks: Sequence[Working], keeps: bool, keeps_x: bool
) -> tuple[Tensor, list[SliceKept]]:
    """Walks a slice through the blocks; `keeps_x`: the caller keeps `x`."""
    kept: list[SliceKept] = []
    for block in blocks:
        reads = keeps and bool(kept) and block.reads_x()
        y, of_block = slice_forward(x, block.spec, block.branches, keeps, reads or (keeps_x and not kept))
        kept.append(of_block._replace(x=x) if reads else of_block)
        x = y
    return x, kept


def _backward(
    grad: Tensor | None,
    owned: bool,
    x: Tensor | None,
    sizes: Sequence[Size],
    blocks: list[Working],
    kept: list[SliceKept],
    sums: list[list[ChainGrads]],
    replays: bool,
) -> Tensor | None:
    """Walks a slice back through the blocks; `replays`: they kept nothing, and are recomputed.

    `grad` is edited if it is `owned`.
    """
    if replays and len(blocks) > 1:
        assert x is not None
        y, again = _slice_forward(x, blocks[:-1], keeps=True, keeps_x=True)
        kept = [*again, kept[-1]._replace(x=y)]
        del again, y  # freed as the walk passes
    for index in reversed(range(len(blocks))):
        assert grad is not None
        block, source = blocks[index], x if index == 0 else kept[index].x
        grad = slice_backward(
            grad,
            source,
            sizes[index],
            block.spec,
            block.branches,
            kept.pop(),
            sums[index],
            replays and index == len(blocks) - 1,
            owned,
        )
        owned = True
        if grad is None:
            break
    return grad


@lru_cache(maxsize=1024)
def _plans(
    specs: tuple[BlockSpec, ...], asked: tuple[bool, ...], recompute: Recompute
) -> list[list[ChainPlan | None]]:
    """Returns a plan per branch per block; `asked`: which of the function's arguments need a gradient."""
    plans = []
    needs_x = asked[0]
    start = _BEFORE
    for spec in specs:
        of_block: list[ChainPlan | None] = []
        first = start
        for branch in spec.branches:
            stop = start + _PER_UNIT * len(branch.units)
            needs = [Needs(*asked[i : i + 4]) for i in range(start, stop, _PER_UNIT)]
            of_block.append(plan_chain(branch.units, needs, needs_x, recompute))
            start = stop
        plans.append(of_block)
        needs_x = needs_x or any(asked[first:start])
    return plans


def _grouped(row: Sequence[Tensor | None], specs: Sequence[BlockSpec]) -> Iterator[list[list[UnitTensors]]]:
    """Yields the tensors of each block, by branch and unit."""
    start = 0
    for spec in specs:
        groups = []
        for branch in spec.branches:
            stop = start + _PER_UNIT * len(branch.units)
            groups.append([UnitTensors(*row[i : i + _PER_UNIT]) for i in range(start, stop, _PER_UNIT)])  # type: ignore[arg-type]
            start = stop
        yield groups


def _without_running(row: Sequence[Tensor | None], blocks: Sequence[Block]) -> Sequence[Tensor | None]:
    """Returns the tensors without the running statistics that training updates and backward does not read."""
    if not any(block.spec.uses_batch_statistics for block in blocks):
        return row
    kept: list[Tensor | None] = []
    for block in blocks:
        for branch, of_branch in zip(block.spec.branches, block.tensors, strict=True):
            for unit, tensors in zip(branch.units, of_branch, strict=True):
                kept += (tensors._replace(mean=None, var=None) if unit.norm == "batch" else tensors).row()
    return kept


def _parameter_grads(branches: list[Branch], sums: list[ChainGrads]) -> list[Tensor | None]:
    row: list[Tensor | None] = []
    for (_, chain), grads in zip(branches, sums, strict=True):
        n_units = len(chain.specs)
        made = [None] * (4 * n_units) if chain.plan is None else chain.parameter_grads(grads)
        for unit in range(n_units):
            row += [*made[4 * unit : 4 * unit + 4], None, None]
    return row
