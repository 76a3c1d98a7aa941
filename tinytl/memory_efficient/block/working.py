"""A block at work: its branches with their tensors, the sizes of its maps, and the slices of a batch."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from tinytl.device import takes_cpu_path
from tinytl.memory_efficient.block.chain import Chain
from tinytl.memory_efficient.block.reading import Extent
from tinytl.memory_efficient.block.slice import Branch
from tinytl.memory_efficient.block.spec import Block, BlockSpec, Execution
from tinytl.memory_efficient.block.unit import ChainPlan, UnitTensors

Size = tuple[int, int]


class Working(NamedTuple):
    """A block at work."""

    spec: BlockSpec
    branches: list[Branch]

    def reads_x(self) -> bool:
        """Whether backward reads the input itself."""
        return any(
            chain.plan is not None and chain.plan.keeps_x and not branch.pools
            for branch, chain in self.branches
        )

    def largest(self, size: Size) -> int:
        """Returns the elements per sample of the largest unit's output, for an input map of `size`."""
        return max(chain.largest_output(branch.pooled_size(size)) for branch, chain in self.branches)

    def output_size(self, size: Size) -> Size:
        """Returns the size of the output's map."""
        return self.branches[0].chain.sizes(size)[-1]

    def take(self, tensors: Sequence[Sequence[UnitTensors]]) -> None:
        """Gives the chains their tensors."""
        for branch, of_branch in zip(self.branches, tensors, strict=True):
            branch.chain.take(of_branch)

    def keep_made(self, keep: bool) -> None:
        """Sets whether weights that are made of stored ones are kept until `let_go`, for the next slice."""
        for branch in self.branches:
            branch.chain.keeps_made = keep

    def let_go(self) -> None:
        """Drops tensors, and what was made of them, for a pause before backward."""
        for branch in self.branches:
            branch.chain.let_go()


def working_block(block: Block, dtype: torch.dtype, plans: Sequence[ChainPlan | None]) -> Working:
    """Returns a block at work, with a plan per branch; without `plans`, nothing takes part in backward."""
    plans = plans or [None] * len(block.tensors)
    branches = [
        Branch(branch, Chain(branch.units, units, dtype, plan))
        for branch, units, plan in zip(block.spec.branches, block.tensors, plans, strict=True)
    ]
    return Working(block.spec, branches)


def extent(block: Block, size: Size) -> Extent:
    """Returns what the block makes of a sample whose map has this size."""
    working = working_block(block, torch.float32, ())
    channels = block.tensors[0][-1].out_channels
    return Extent(working.largest(size), (channels, *working.output_size(size)))


def samples_in_slice(largest: int, itemsize: int, how: Execution, x: Tensor) -> int:
    """Returns of how many samples an intermediate, `largest` elements each, stays within `slice_mib`."""
    # A map smaller than the kernel has no output: torch reports it.
    return max(1, how.slice_bytes(takes_cpu_path(x)) // (max(1, largest) * itemsize))


def map_sizes(blocks: Sequence[Working], size: Size) -> list[Size]:
    """Returns the map size of each block's input."""
    sizes = [size]
    for block in blocks[:-1]:
        sizes.append(block.output_size(sizes[-1]))
    return sizes


def slices_of(x: Tensor, blocks: Sequence[Working], how: Execution) -> list[tuple[int, int]]:
    """Returns (start, stop) of slices of the batch whose largest intermediate stays within `slice_mib`."""
    n = x.shape[0]
    if any(block.spec.uses_batch_statistics for block in blocks):
        return [(0, n)]
    sizes = map_sizes(blocks, (x.shape[2], x.shape[3]))
    largest = max(block.largest(size) for block, size in zip(blocks, sizes, strict=True))
    step = samples_in_slice(largest, blocks[0].branches[0].chain.dtype.itemsize, how, x)
    step = -(-n // -(-n // step)) if n else step  # as few slices, of one size if that divides
    return [(start, min(start + step, n)) for start in range(0, n, step)]


def slices_to_run(slices: list[tuple[int, int]], like: Tensor) -> Mapping[int, int]:
    """Returns the slices to run, and how many each stands for: all, or on fake tensors, which compute
    nothing, one per size.

    The first creates what all share, the last full one runs beside most kept memory, the last may be smaller.
    """
    n = len(slices)
    if n <= 3 or not isinstance(like, FakeTensor):
        return dict.fromkeys(range(n), 1)
    return {0: 1, n - 2: n - 2, n - 1: 1}
