"""PyTorch's caching allocator of a GPU, followed without a GPU: what a request of some bytes really holds.

Requests are rounded up, cut from larger pieces, and may get a piece that is too small to be cut once more.
Source: c10/cuda/CUDACachingAllocator.cpp, with the settings that PyTorch has if nobody sets
`PYTORCH_CUDA_ALLOC_CONF`.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass, field

ROUND_BYTES = 512
"""Every block is a multiple of this."""
SMALL_BYTES = 1 << 20
"""Requests up to this come from segments of their own."""
SMALL_SEGMENT_BYTES = 2 << 20
LARGE_SEGMENT_BYTES = 20 << 20
"""For requests under `OWN_SEGMENT_BYTES`."""
OWN_SEGMENT_BYTES = 10 << 20
"""From here on a request gets a segment of its own size, rounded up to `ROUND_SEGMENT_BYTES`."""
ROUND_SEGMENT_BYTES = 2 << 20


@dataclass(eq=False)
class _Block:
    """A piece of a segment."""

    address: int
    nbytes: int
    small: bool
    free: bool = True
    before: "_Block | None" = None
    after: "_Block | None" = None
    """Its neighbours in the segment."""

    @property
    def place(self) -> tuple[int, int]:
        """By which free blocks are searched: size, then address."""
        return self.nbytes, self.address


@dataclass
class CudaAllocator:
    """The allocator's blocks on one stream."""

    allocated_bytes: int = 0
    """Held now, as `torch.cuda.memory_allocated` counts."""
    reserved_bytes: int = 0
    """Of all segments, as `torch.cuda.memory_reserved` counts."""
    peak_allocated_bytes: int = 0
    _free: dict[bool, list[tuple[int, int]]] = field(default_factory=lambda: {True: [], False: []})
    """Sizes and addresses of free blocks, sorted; by whether they are small."""
    _blocks: dict[int, _Block] = field(default_factory=dict)
    """By address."""

    def allocate(self, nbytes: int) -> int:
        """Returns the address of a block for so many bytes."""
        size = max(ROUND_BYTES, -(-nbytes // ROUND_BYTES) * ROUND_BYTES)
        small = size <= SMALL_BYTES
        free = self._free[small]
        index = bisect_left(free, (size, 0))
        block = self._blocks[free.pop(index)[1]] if index < len(free) else self._segment(size, small)
        rest = block.nbytes - size
        if rest >= ROUND_BYTES if small else rest > SMALL_BYTES:
            self._cut(block, size)
        block.free = False
        self.allocated_bytes += block.nbytes
        self.peak_allocated_bytes = max(self.peak_allocated_bytes, self.allocated_bytes)
        return block.address

    def release(self, address: int) -> None:
        """Frees the block at `address`, which joins free neighbours."""
        block = self._blocks[address]
        self.allocated_bytes -= block.nbytes
        block.free = True
        for neighbour in (block.before, block.after):
            if neighbour is not None and neighbour.free:
                free = self._free[block.small]
                del free[bisect_left(free, neighbour.place)]
                block = self._joined(*sorted((block, neighbour), key=lambda b: b.address))
        insort(self._free[block.small], block.place)

    def size_at(self, address: int) -> int:
        """Returns the bytes that the block at `address` holds."""
        return self._blocks[address].nbytes

    def _segment(self, size: int, small: bool) -> _Block:
        if small:
            nbytes = SMALL_SEGMENT_BYTES
        elif size < OWN_SEGMENT_BYTES:
            nbytes = LARGE_SEGMENT_BYTES
        else:
            nbytes = -(-size // ROUND_SEGMENT_BYTES) * ROUND_SEGMENT_BYTES
        block = _Block(self.reserved_bytes, nbytes, small)
        self.reserved_bytes += nbytes
        self._blocks[block.address] = block
        return block

    def _cut(self, block: _Block, size: int) -> None:
        rest = _Block(block.address + size, block.nbytes - size, block.small, True, block, block.after)
        if block.after is not None:
            block.after.before = rest
        block.nbytes, block.after = size, rest
        self._blocks[rest.address] = rest
        insort(self._free[block.small], rest.place)

    def _joined(self, first: _Block, second: _Block) -> _Block:
        first.nbytes += second.nbytes
        first.after = second.after
        if second.after is not None:
            second.after.before = first
        first.free = True
        del self._blocks[second.address]
        return first
