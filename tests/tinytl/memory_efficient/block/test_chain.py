import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tinytl.memory_efficient.block.chain import Chain, ChainGrads, Kept
from tinytl.memory_efficient.block.unit import Keep, Needs, NormKind, UnitSpec, UnitTensors, plan_chain
from tinytl.memory_efficient.ops.convolution import ConvSpec
from tinytl.memory_efficient.ops.layout import channels_last

ALL, BETA, NONE = Needs(True, False, True, True), Needs(False, False, False, True), Needs(*[False] * 4)
ACTIVATE = {"none": lambda t: t, "relu6": F.relu6, "hardswish": F.hardswish}


def _specs(norm: NormKind, activation: str = "relu6") -> list[UnitSpec]:
    """4 -> 8 channels, 3x3 at every second pixel, then 8 -> 4."""
    return [
        UnitSpec(conv=ConvSpec(stride=(2, 2), padding=(1, 1)), norm=norm, activation=activation, n_groups=2),
        UnitSpec(conv=ConvSpec(), norm=norm, activation="none", n_groups=2),
    ]


def _tensors(norm: NormKind) -> list[UnitTensors]:
    made = []
    for shape in ((8, 4, 3, 3), (4, 8, 1, 1)):
        weight, n = torch.randn(shape, dtype=torch.float64), shape[0]
        gamma, beta, mean = (
            torch.randn(n, dtype=torch.float64) if norm != "none" else None for _ in range(3)
        )
        var = torch.rand(n, dtype=torch.float64) + 0.5 if norm == "frozen" else None
        made.append(UnitTensors(weight, None, gamma, beta, mean if norm == "frozen" else None, var))
    return made


def _stock(x: Tensor, specs: list[UnitSpec], tensors: list[UnitTensors]) -> list[Tensor]:
    """Returns the output of each unit."""
    outputs = []
    for spec, unit in zip(specs, tensors, strict=True):
        x = F.conv2d(x, unit.weight, None, spec.conv.stride, spec.conv.padding)
        if spec.norm == "frozen":
            x = F.batch_norm(x, unit.mean, unit.var, unit.gamma, unit.beta, False, 0.0, spec.eps)
        elif spec.norm == "group":
            x = F.group_norm(x, spec.n_groups, unit.gamma, unit.beta, spec.eps)
        x = ACTIVATE[spec.activation](x)
        outputs.append(x)
    return outputs


def _x(*shape: int) -> Tensor:
    return channels_last(torch.randn(shape, dtype=torch.float64))


@pytest.mark.parametrize("needs", [ALL, BETA])
@pytest.mark.parametrize("activation", ["relu6", "hardswish"])
@pytest.mark.parametrize("norm", ["none", "frozen", "group"])
def test_forward_is_stocks_and_leaves_its_input(norm: NormKind, activation: str, needs: Needs) -> None:
    specs, tensors, x = _specs(norm, activation), _tensors(norm), _x(2, 4, 7, 6)
    before = x.clone()
    chain = Chain(specs, tensors, torch.float64, plan_chain(specs, [needs, needs], True, "none"))
    y, _ = chain.forward(x, keeps=True)
    torch.testing.assert_close(y, _stock(x, specs, tensors)[-1])
    assert torch.equal(x, before)


@pytest.mark.parametrize("norm", ["none", "frozen", "group"])
def test_replay_keeps_what_forward_kept(norm: NormKind) -> None:
    specs, tensors, x = _specs(norm), _tensors(norm), _x(2, 4, 7, 6)
    chain = Chain(specs, tensors, torch.float64, plan_chain(specs, [ALL, ALL], True, "none"))
    _, kept = chain.forward(x, keeps=True)
    assert kept[0].values is not None
    for one, other in zip(kept, chain.replay(x), strict=True):
        for mine, theirs in zip(one, other, strict=True):
            assert mine is theirs is None or torch.equal(mine, theirs)


def test_replay_stops_after_the_last_unit_that_keeps_anything() -> None:
    specs, tensors = _specs("frozen"), _tensors("frozen")
    plan = plan_chain(specs, [BETA, NONE], False, "none")
    assert plan is not None
    assert [unit.keep for unit in plan.units] == [Keep.BITS, Keep.NOTHING]
    cannot_run = tensors[1]._replace(weight=torch.empty(0))
    kept = Chain(specs, [tensors[0], cannot_run], torch.float64, plan).replay(_x(2, 4, 7, 6))
    assert kept[0].values is not None
    assert kept[1] == Kept()


def test_without_keeping_nothing_is_kept() -> None:
    specs, tensors = _specs("group"), _tensors("group")
    chain = Chain(specs, tensors, torch.float64, plan_chain(specs, [ALL, ALL], True, "none"))
    _, kept = chain.forward(_x(2, 4, 7, 6), keeps=False)
    assert all(tensor is None for unit in kept for tensor in unit)


@pytest.mark.parametrize("norm", ["none", "frozen"])
def test_what_is_kept_for_an_activation_is_not_edited_by_it(norm: NormKind) -> None:
    specs, tensors, x = _specs(norm, "hardswish"), _tensors(norm), _x(2, 4, 7, 6)
    chain = Chain(specs, tensors, torch.float64, plan_chain(specs, [BETA, BETA], True, "none"))
    _, kept = chain.forward(x, keeps=True)
    assert kept[0].values is not None
    torch.testing.assert_close(kept[0].values, _stock(x, _specs(norm, "none"), tensors)[0])


@pytest.mark.parametrize("backward", [False, True])
def test_a_norm_folded_into_the_weight_or_put_on_the_map_is_the_same(backward: bool) -> None:
    """The map has fewer elements if it is small: one pixel against thirty-six of them."""
    specs, tensors = _specs("frozen"), _tensors("frozen")
    pixel = _x(1, 4 if backward else 8, 1, 1)
    results = []
    for n in (1, 36):
        x = channels_last(pixel.expand(n, -1, 1, 1))
        chain = Chain(specs, tensors, torch.float64, None)
        made = chain.convolve_back(1, x, (1, 1)) if backward else chain.convolve(1, x)
        assert (chain._weights[1] is None) == (n == 1), "the smaller of the two is multiplied"
        results.append(made[:1])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("size", [(7, 6), (1, 1)])
def test_sizes_are_those_of_the_outputs(size: tuple[int, int]) -> None:
    specs, tensors = _specs("none"), _tensors("none")
    chain = Chain(specs, tensors, torch.float64, None)
    outputs = _stock(_x(1, 4, *size), specs, tensors)
    assert chain.sizes(size) == [size, *(tuple(y.shape[2:]) for y in outputs)]
    assert chain.largest_output(size) == max(y.numel() for y in outputs)


def test_gradients_of_slices_are_summed_and_those_that_nobody_wants_stay_away() -> None:
    grads = ChainGrads(2)
    for value in (1.0, 2.0):
        grads.add(1, ChainGrads.BETA, torch.full((3,), value))
        grads.add(0, ChainGrads.WEIGHT, None)
    assert grads.sums[0] == [None] * 4
    assert grads.sums[1][:3] == [None] * 3
    total = grads.sums[1][ChainGrads.BETA]
    assert total is not None
    assert total.tolist() == [3, 3, 3]
