"""The sizes of a block's maps, and the slices of a batch that follow from them."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tinytl.memory_efficient.block.spec import Block, BlockSpec, BranchSpec, Execution
from tinytl.memory_efficient.block.unit import NormKind, UnitSpec, UnitTensors
from tinytl.memory_efficient.block.working import (
    extent,
    map_sizes,
    samples_in_slice,
    slices_of,
    slices_to_run,
    working_block,
)
from tinytl.memory_efficient.ops.convolution import ConvSpec

KIB = 1 / 1024


def block(norm: NormKind = "none", stride: int = 2) -> Block:
    """4 -> 8 -> 6 channels; the first convolution is 3x3 and may halve the map."""
    units = (
        UnitSpec(conv=ConvSpec(stride=(stride, stride), padding=(1, 1)), norm=norm, activation="relu"),
        UnitSpec(conv=ConvSpec(), norm="none", activation="none"),
    )
    tensors = [
        UnitTensors(torch.zeros(8, 4, 3, 3), None, None, None, None, None),
        UnitTensors(torch.zeros(6, 8, 1, 1), None, None, None, None, None),
    ]
    return Block(BlockSpec(branches=(BranchSpec(units=units),)), [tensors])


def slices(n_samples: int, slice_mib: float, norm: NormKind = "none") -> list[tuple[int, int]]:
    """Of maps of 16 x 16, whose largest intermediate is 2 KiB a sample: 8 channels of 8 x 8."""
    working = [working_block(block(norm), torch.float32, ())]
    return slices_of(torch.zeros(n_samples, 4, 16, 16), working, Execution(slice_mib=slice_mib))


def test_a_block_says_how_large_its_maps_are() -> None:
    found = extent(block(), (16, 16))
    assert found.largest == 8 * 8 * 8 and found.output == (6, 8, 8)
    two = [working_block(block(), torch.float32, ()) for _ in range(3)]
    assert map_sizes(two, (16, 12)) == [(16, 12), (8, 6), (4, 3)]


def test_slices_cover_the_batch_within_the_limit() -> None:
    assert slices(8, slice_mib=1) == [(0, 8)]
    assert slices(8, slice_mib=8 * KIB) == [(0, 4), (4, 8)]
    assert slices(9, slice_mib=8 * KIB) == [(0, 3), (3, 6), (6, 9)]  # not 4, 4, 1: of one size
    assert slices(7, slice_mib=8 * KIB) == [(0, 4), (4, 7)]
    assert slices(3, slice_mib=0.1 * KIB) == [(0, 1), (1, 2), (2, 3)]  # one sample may exceed it
    assert slices(0, slice_mib=1) == []


def test_samples_that_share_statistics_are_one_slice() -> None:
    assert slices(8, slice_mib=0.1 * KIB, norm="batch") == [(0, 8)]


@pytest.mark.parametrize(("itemsize", "samples"), [(4, 4), (2, 8), (8, 2)])
def test_a_slice_holds_what_fits(itemsize: int, samples: int) -> None:
    assert samples_in_slice(512, itemsize, Execution(slice_mib=8 * KIB), torch.zeros(1)) == samples


def test_fake_tensors_run_one_slice_of_each_kind() -> None:
    many = [(start, start + 2) for start in range(0, 20, 2)]
    assert slices_to_run(many, torch.zeros(1)) == dict.fromkeys(range(10), 1)
    with FakeTensorMode():
        like = torch.zeros(1)
    assert slices_to_run(many, like) == {0: 1, 8: 8, 9: 1}  # together, all ten
    assert slices_to_run(many[:3], like) == dict.fromkeys(range(3), 1)
