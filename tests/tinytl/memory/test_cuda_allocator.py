"""The caching allocator's rules, each as CUDACachingAllocator.cpp has it."""

import itertools
import random

import pytest

from tinytl.memory.cuda_allocator import CudaAllocator

MIB = 1 << 20


@pytest.mark.parametrize(
    ("asked", "held", "reserved"),
    [
        (1, 512, 2 * MIB),
        (512, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + 512, 20 * MIB),
        (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),
        (11 * MIB, 12 * MIB, 12 * MIB),  # what is left, one MiB, is not cut off
        (21 * MIB + 1, 22 * MIB, 22 * MIB),
        (19 * MIB, 20 * MIB, 20 * MIB),
    ],
)
def test_a_first_request(asked: int, held: int, reserved: int) -> None:
    allocator = CudaAllocator()
    address = allocator.allocate(asked)
    assert allocator.size_at(address) == allocator.allocated_bytes == held
    assert allocator.reserved_bytes == reserved


def test_the_smallest_free_block_that_fits_is_taken() -> None:
    allocator = CudaAllocator()
    large, _wall, small = (allocator.allocate(nbytes) for nbytes in (64 * 1024, 512, 16 * 1024))
    allocator.allocate(512)
    allocator.release(large)
    allocator.release(small)
    assert allocator.allocate(10 * 1024) == small
    assert allocator.allocate(20 * 1024) == large


def test_neighbours_join_when_they_are_free() -> None:
    allocator = CudaAllocator()
    blocks = [allocator.allocate(6 * MIB) for _ in range(3)]  # of one segment of 20 MiB
    for block in (blocks[0], blocks[2], blocks[1]):
        allocator.release(block)
    assert allocator.allocated_bytes == 0
    assert allocator.allocate(9 * MIB) == blocks[0] and allocator.reserved_bytes == 20 * MIB


def test_a_rest_of_up_to_one_mib_of_a_large_block_is_held_too() -> None:
    allocator = CudaAllocator()
    first = allocator.allocate(12 * MIB)
    allocator.release(first)
    again = allocator.allocate(11 * MIB + 512)
    assert again == first and allocator.allocated_bytes == 12 * MIB
    allocator.release(again)
    assert allocator.size_at(allocator.allocate(11 * MIB - 512)) == 11 * MIB - 512


def test_whatever_is_asked_for_blocks_never_overlap_and_the_peak_is_their_highest_sum() -> None:
    rng = random.Random(0)
    allocator, held, peak = CudaAllocator(), {}, 0
    for _ in range(2000):
        if held and rng.random() < 0.5:
            address = rng.choice(list(held))
            del held[address]
            allocator.release(address)
        else:
            asked = int(2 ** rng.uniform(0, 25))
            address = allocator.allocate(asked)
            held[address] = allocator.size_at(address)
            assert held[address] >= asked
        assert allocator.allocated_bytes == sum(held.values())
        peak = max(peak, sum(held.values()))
        ends = sorted((address, address + nbytes) for address, nbytes in held.items())
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ends))
    assert allocator.peak_allocated_bytes == peak
    for address in held:
        allocator.release(address)
    assert allocator.allocated_bytes == 0
    assert sum(nbytes for free in allocator._free.values() for nbytes, _ in free) == allocator.reserved_bytes
