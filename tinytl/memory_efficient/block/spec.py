"""What a block computes, and how it runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from tinytl.memory_efficient.block.unit import Recompute, UnitSpec, UnitTensors
from tinytl.memory_efficient.ops.pooling import PoolSpec
from tinytl.networks.upsample import Mode


@dataclass(frozen=True, kw_only=True)
class BranchSpec:
    """A chain of units on the block's input, pooled before and resized after if it says so."""

    units: tuple[UnitSpec, ...]
    pool: PoolSpec | None = None
    global_pool: bool = False
    """The input's mean over `(H, W)`; the output `(N, C', 1, 1)` is added everywhere."""
    resize: Mode | None = None

    @property
    def pools(self) -> bool:
        """Whether the chain's input is not the block's."""
        return self.global_pool or self.pool is not None

    def pooled_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns the size of the chain's input map, for a block's input of `size`."""
        if self.global_pool:
            return (1, 1)
        if self.pool is None:
            return size
        pool = self.pool.fitted(size)
        (high, wide), (down, right) = pool.kernel, pool.stride
        return (size[0] - high) // down + 1, (size[1] - wide) // right + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockSpec:
    """The sum of branches, the first of which sets the size of the output; then an activation.

    Compared by identity, which is quick, as plans are cached by it.
    """

    branches: tuple[BranchSpec, ...]
    shortcut: bool = False
    """The input itself is added too."""
    activation: str = "none"
    """`none`, `relu` or `relu6`, after the sum."""

    @cached_property
    def uses_batch_statistics(self) -> bool:
        """Whether samples depend on each other, so that the batch has to be walked as one slice."""
        return any(unit.norm == "batch" for branch in self.branches for unit in branch.units)


class Block(NamedTuple):
    """A block as it is now: what it computes, and with which tensors."""

    spec: BlockSpec
    tensors: Sequence[Sequence[UnitTensors]]
    """A sequence per branch, an entry per unit."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a block runs: nothing here changes what it computes."""

    recompute: Recompute = "none"
    """What backward recomputes: `none` (element-wise operations only), `depthwise` (depthwise convolutions
    too) or `block` (all of a block, from its input). Recomputing more needs more time. It needs less memory
    if full tensors are kept (group norm, FT-Full, FT-Norm+Last); if only bits are kept, `none` needs
    least."""
    slice_mib: float | None = None
    """Largest intermediate of a slice, in MiB, unless one sample exceeds it. Less needs less memory; on a
    CPU, less than the last-level cache is faster, too. Default: 5 on a CPU, 64 elsewhere, where few launches
    matter more."""

    stock_below_kib: float = 0.0
    """Blocks and modules whose largest intermediate is below this many KiB run as PyTorch's own: they keep
    little, and on small maps a call from Python needs more time than the work. 0: all run lean."""

    def slice_bytes(self, on_cpu: bool) -> int:
        """Returns `slice_mib` in bytes, on a CPU or on a GPU."""
        if self.slice_mib is not None:
            return int(self.slice_mib * 2**20)
        return (5 if on_cpu else 64) * 2**20
