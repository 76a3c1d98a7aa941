"""What a slice keeps; tests/tinytl/memory_efficient/block/test_function.py compares blocks with stock's."""

import pytest
import torch
from torch import Tensor

from tinytl.memory_efficient.block.chain import Chain, ChainGrads
from tinytl.memory_efficient.block.slice import Branch, SliceKept, from_tensors, slice_backward, slice_forward
from tinytl.memory_efficient.block.spec import BlockSpec, BranchSpec
from tinytl.memory_efficient.block.unit import Needs, UnitSpec, UnitTensors, plan_chain
from tinytl.memory_efficient.ops.convolution import ConvSpec
from tinytl.memory_efficient.ops.layout import channels_last
from tinytl.memory_efficient.ops.pooling import PoolSpec

WEIGHT, NONE = Needs(True, False, False, False), Needs(*[False] * 4)
UNIT = UnitSpec(conv=ConvSpec(), norm="none", activation="relu")
SPEC = BlockSpec(
    branches=(
        BranchSpec(units=(UNIT, UNIT)),
        BranchSpec(units=(UNIT,), pool=PoolSpec(kernel=(2, 2), stride=(2, 2)), resize="nearest"),
    ),
    activation="relu6",
)


def _branches(needs: list[list[Needs]], needs_x: bool = False) -> list[Branch]:
    made = []
    for spec, of_units in zip(SPEC.branches, needs, strict=True):
        weights = [torch.randn(4, 4, 1, 1) for _ in spec.units]
        tensors = [UnitTensors(weight, None, None, None, None, None) for weight in weights]
        plan = plan_chain(spec.units, of_units, needs_x, "none")
        made.append(Branch(spec, Chain(spec.units, tensors, torch.float32, plan)))
    return made


def _x() -> Tensor:
    return channels_last(torch.randn(2, 4, 6, 6))


def _all(kept: SliceKept) -> list[Tensor]:
    return [tensor for tensor in kept.tensors() if tensor is not None]


def test_what_slices_keep_comes_back_from_one_row_of_tensors() -> None:
    branches = _branches([[WEIGHT, WEIGHT], [WEIGHT]])
    kept = [slice_forward(_x(), SPEC, branches, keeps=True, keeps_x=False)[1] for _ in range(3)]
    row = [tensor for of_slice in kept for tensor in of_slice.tensors()]
    found = [one for (one,) in from_tensors(row, 3, [SPEC])]
    assert [id(tensor) for one in found for tensor in one.tensors()] == [id(tensor) for tensor in row]
    assert [len(units) for units in found[0].units] == [2, 1]
    for one, other in zip(found, kept, strict=True):
        assert one.bits is other.bits
        assert one.pooled[1] is other.pooled[1] is not None


def test_another_slice_is_given_as_much_memory_of_its_own() -> None:
    _, kept = slice_forward(_x(), SPEC, _branches([[WEIGHT, WEIGHT], [NONE]]), keeps=True, keeps_x=False)
    another = kept.another()
    assert [t is None for t in another.tensors()] == [t is None for t in kept.tensors()]
    for one, other in zip(_all(kept), _all(another), strict=True):
        assert (one.shape, one.dtype, one.stride()) == (other.shape, other.dtype, other.stride())
        assert one.data_ptr() != other.data_ptr()


@pytest.mark.parametrize(
    ("needs", "keeps_x", "pooled"),
    [
        ([[NONE, NONE], [WEIGHT]], False, True),
        ([[NONE, NONE], [WEIGHT]], True, False),  # it is pooled again
        ([[WEIGHT, NONE], [NONE]], False, False),
    ],
)
def test_a_pooled_input_is_kept_if_it_is_read_and_cannot_be_made_again(
    needs: list[list[Needs]], keeps_x: bool, pooled: bool
) -> None:
    _, kept = slice_forward(_x(), SPEC, _branches(needs), keeps=True, keeps_x=keeps_x)
    assert kept.pooled[0] is None
    assert (kept.pooled[1] is not None) == pooled


def test_if_nothing_trains_nothing_is_kept_and_nothing_comes_back() -> None:
    branches, x = _branches([[NONE, NONE], [NONE]]), _x()
    before = x.clone()
    y, kept = slice_forward(x, SPEC, branches, keeps=True, keeps_x=False)
    assert _all(kept) == []
    assert torch.equal(x, before)
    sums = [ChainGrads(2), ChainGrads(1)]
    assert slice_backward(torch.ones_like(y), None, (6, 6), SPEC, branches, kept, sums, replays=False) is None
    assert all(grad is None for of_branch in sums for unit in of_branch.sums for grad in unit)


@pytest.mark.parametrize("keeps_x", [True, False])
def test_units_that_run_again_give_the_gradients_of_units_that_kept(keeps_x: bool) -> None:
    branches, x = _branches([[WEIGHT, WEIGHT], [WEIGHT]], needs_x=True), _x()
    found = []
    for keeps in (True, False):
        y, kept = slice_forward(x, SPEC, branches, keeps=keeps, keeps_x=keeps_x)
        sums = [ChainGrads(2), ChainGrads(1)]
        grad = torch.linspace(-1, 1, y.numel()).view_as(y)
        before = grad.clone()
        made = slice_backward(grad, x, (6, 6), SPEC, branches, kept, sums, replays=not keeps)
        assert torch.equal(grad, before)
        assert made is not None
        found.append([made, *(unit[0] for of_branch in sums for unit in of_branch.sums)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("activation", ["none", "relu6"])
@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize("n_branches", [1, 2])
def test_a_gradient_that_is_owned_is_edited_and_makes_the_same(
    activation: str, shortcut: bool, n_branches: int
) -> None:
    spec = BlockSpec(branches=SPEC.branches[:n_branches], shortcut=shortcut, activation=activation)
    branches, x = _branches([[WEIGHT, WEIGHT], [WEIGHT]], needs_x=True)[:n_branches], _x()
    y, kept = slice_forward(x, spec, branches, keeps=True, keeps_x=True)
    grad = torch.randn_like(y)
    found = []
    for owned in (False, True):
        given, sums = grad.clone(), [ChainGrads(2), ChainGrads(1)][:n_branches]
        made = slice_backward(given, x, (6, 6), spec, branches, kept, sums, replays=False, owned=owned)
        assert made is not None and made.data_ptr() != given.data_ptr()
        found.append([made, *(unit[0] for of_branch in sums for unit in of_branch.sums)])
        reads_it_twice = (shortcut or n_branches > 1) and activation == "none"
        assert torch.equal(given, grad) == (not owned or reads_it_twice)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
