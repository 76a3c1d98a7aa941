import pytest
import torch
from torch import nn

from tinytl.memory_efficient.block.reading import average_pool_spec
from tinytl.memory_efficient.block.spec import BlockSpec, BranchSpec, Execution
from tinytl.networks.lite_residual import AvgPoolWithinMap


@pytest.mark.parametrize(
    "pool",
    [
        nn.AvgPool2d(2),
        nn.AvgPool2d((3, 2), stride=(1, 2)),
        nn.AvgPool2d(2, stride=3),
        AvgPoolWithinMap(2, 2),
        AvgPoolWithinMap(8, 8),
    ],
)
@pytest.mark.parametrize("size", [(5, 6), (7, 3)])
def test_the_map_after_pooling_is_as_large_as_the_modules(pool: nn.AvgPool2d, size: tuple[int, int]) -> None:
    branch = BranchSpec(units=(), pool=average_pool_spec(pool))
    assert branch.pools
    assert branch.pooled_size(size) == tuple(pool(torch.zeros(1, 1, *size)).shape[2:])


def test_without_pooling_the_map_is_the_blocks() -> None:
    branch = BranchSpec(units=())
    assert not branch.pools
    assert branch.pooled_size((5, 6)) == (5, 6)


def test_a_mean_over_the_map_is_one_pixel() -> None:
    branch = BranchSpec(units=(), global_pool=True)
    assert branch.pools
    assert branch.pooled_size((5, 6)) == (1, 1)


def test_two_blocks_that_compute_the_same_are_two() -> None:
    """Plans are remembered by block: an equal one must not find another's."""
    one, other = (BlockSpec(branches=(BranchSpec(units=()),)) for _ in range(2))
    assert one != other
    assert len({one, other}) == 2


@pytest.mark.parametrize(
    ("slice_mib", "on_cpu", "expected"),
    [
        (None, True, 5 * 2**20),
        (None, False, 64 * 2**20),
        (0.5, True, 2**19),
        (0.5, False, 2**19),
        (1e-9, True, 0),
    ],
)
def test_bytes_of_a_slice(slice_mib: float | None, on_cpu: bool, expected: int) -> None:
    assert Execution(slice_mib=slice_mib).slice_bytes(on_cpu) == expected
