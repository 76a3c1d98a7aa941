"""A block on one slice of a batch: forward, what it keeps, and backward."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tinytl.memory_efficient.block.chain import Chain, ChainGrads, Kept
from tinytl.memory_efficient.block.chain_backward import chain_backward
from tinytl.memory_efficient.block.spec import BlockSpec, BranchSpec
from tinytl.memory_efficient.ops.activation import PASSES_BETWEEN, activate_
from tinytl.memory_efficient.ops.bit_mask import apply_bits, pack_interior
from tinytl.memory_efficient.ops.layout import channels_last
from tinytl.memory_efficient.ops.pooling import average_pool, average_pool_grad
from tinytl.memory_efficient.ops.upsample import resize, resize_grad

Size = tuple[int, int]


class Branch(NamedTuple):
    """A branch, its tensors, and its part in backward."""

    spec: BranchSpec
    chain: Chain


class SliceKept(NamedTuple):
    """What one slice keeps of one block."""

    x: Tensor | None
    """The input, if backward reads it and the caller does not keep it."""
    bits: Tensor | None
    """The mask of the activation after the sum."""
    pooled: list[Tensor | None]
    """Each branch's pooled input, if backward reads it and the block's own input is not kept."""
    units: list[list[Kept]]
    """What each unit of each branch keeps."""

    def tensors(self) -> list[Tensor | None]:
        """Returns all as one flat sequence, as `from_tensors` expects them."""
        row = [self.x, self.bits, *self.pooled]
        for units in self.units:
            for unit in units:
                row += unit
        return row

    def another(self) -> "SliceKept":
        """Returns uninitialised tensors of the same sizes: what another slice of this size keeps."""
        return SliceKept(
            _another(self.x),
            _another(self.bits),
            [_another(tensor) for tensor in self.pooled],
            [[Kept(*map(_another, unit)) for unit in units] for units in self.units],
        )


def from_tensors(
    rows: Sequence[Tensor | None], n_slices: int, specs: Sequence[BlockSpec]
) -> Iterator[list[SliceKept]]:
    """Yields what each slice keeps of each block, from the flat sequence of all slices."""
    items = iter(rows)
    for _ in range(n_slices):
        yield [_from_tensors(items, spec) for spec in specs]


def _from_tensors(items: Iterator[Tensor | None], spec: BlockSpec) -> SliceKept:
    x, bits = next(items), next(items)
    pooled = [next(items) for _ in spec.branches]
    units = [[Kept(*[next(items) for _ in Kept._fields]) for _ in b.units] for b in spec.branches]
    return SliceKept(x, bits, pooled, units)


def slice_forward(
    x: Tensor, spec: BlockSpec, branches: list[Branch], keeps: bool, keeps_x: bool
) -> tuple[Tensor, SliceKept]:
    """Returns the output of a slice `(N, C, H, W)`, in new memory, and what it keeps beside `x`.

    `keeps`: whether units keep anything. `keeps_x`: whether `x` is kept beside it.
    """
    y: Tensor | None = None
    pooled: list[Tensor | None] = []
    units: list[list[Kept]] = []
    for branch, chain in branches:
        source = _pool(x, branch)
        out, kept = chain.forward(source, keeps)
        units.append(kept)
        read = chain.plan is not None and chain.plan.keeps_x and branch.pools and not keeps_x
        pooled.append(source if read else None)
        if y is None:
            y = out
            continue
        if branch.resize is not None:
            out = resize(out, (y.shape[2], y.shape[3]), branch.resize)
        y.add_(out)
    assert y is not None
    if spec.shortcut:
        y.add_(x)
    activate_(y, spec.activation)
    masked = spec.activation != "none" and any(chain.plan is not None for _, chain in branches)
    bits = pack_interior(y, *PASSES_BETWEEN[spec.activation]) if masked else None
    return y, SliceKept(None, bits, pooled, units)


def slice_backward(
    grad: Tensor,
    x: Tensor | None,
    size: Size,
    spec: BlockSpec,
    branches: list[Branch],
    kept: SliceKept,
    sums: list[ChainGrads],
    replays: bool,
    owned: bool = False,
) -> Tensor | None:
    """Returns the gradient of a slice of the input, in new memory, None if it is not needed.

    Adds the parameters' gradients to `sums`, one per branch. `grad` is edited only if it is `owned`. `x` is
    the slice of the input if it was kept, `size` the size of its map. `replays`: whether units kept nothing
    and are recomputed.
    """
    if kept.bits is not None:
        grad, owned = apply_bits(grad, kept.bits, grad if owned else torch.empty_like(grad)), True
    shared = spec.shortcut or sum(chain.plan is not None for _, chain in branches) > 1
    total: Tensor | None = None
    for (branch, chain), source, units, grads in zip(branches, kept.pooled, kept.units, sums, strict=True):
        if chain.plan is None:
            continue
        if source is None and x is not None:
            source = _pool(x, branch)
        if replays:
            assert source is not None
            units = chain.replay(source)
        start = branch.pooled_size(size)
        back = _resize_back(grad, branch, chain, start)
        mine = back is not grad or (owned and not shared)
        made = chain_backward(chain, back, source, start, units, grads, mine)
        if made is None:
            continue
        made = _pool_back(made, branch, size)
        total = channels_last(made) if total is None else total.add_(made)
    if total is not None and spec.shortcut:
        total.add_(grad)
    return total


def _another(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else torch.empty_like(tensor)


def _pool(x: Tensor, branch: BranchSpec) -> Tensor:
    if branch.global_pool:
        return channels_last(x.mean((2, 3), keepdim=True))
    return x if branch.pool is None else channels_last(average_pool(x, branch.pool))


def _pool_back(grad: Tensor, branch: BranchSpec, size: Size) -> Tensor:
    if branch.global_pool:
        return (grad / (size[0] * size[1])).expand(-1, -1, *size)
    return grad if branch.pool is None else average_pool_grad(grad, branch.pool, size)


def _resize_back(grad: Tensor, branch: BranchSpec, chain: Chain, start: Size) -> Tensor:
    if branch.global_pool:
        return channels_last(grad.sum((2, 3), keepdim=True))
    if branch.resize is None:
        return grad
    return channels_last(resize_grad(grad, chain.sizes(start)[-1], branch.resize))
