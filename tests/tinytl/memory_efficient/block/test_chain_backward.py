"""One chain, one slice; tests/tinytl/memory_efficient/block/test_function.py has blocks of every kind."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tinytl.memory_efficient.block.chain import Chain, ChainGrads
from tinytl.memory_efficient.block.chain_backward import chain_backward
from tinytl.memory_efficient.block.unit import Needs, NormKind, UnitSpec, UnitTensors, plan_chain
from tinytl.memory_efficient.ops.convolution import ConvSpec
from tinytl.memory_efficient.ops.layout import channels_last
from tinytl.networks.group_norm import group_norm

SIZE = (5, 4)
ALL, WEIGHT, GAMMA, BETA, NONE = (
    Needs(True, False, True, True),
    Needs(True, False, False, False),
    Needs(False, False, True, False),
    Needs(False, False, False, True),
    Needs(*[False] * 4),
)


def _chain(norm: NormKind, needs: list[Needs], needs_x: bool) -> Chain:
    """Two units of 1x1 convolutions, 4 -> 6 -> 4 channels."""
    specs = [UnitSpec(conv=ConvSpec(), norm=norm, activation=name, n_groups=2) for name in ("relu6", "none")]
    tensors = []
    for shape in ((6, 4, 1, 1), (4, 6, 1, 1)):
        gamma, beta, mean = (torch.randn(shape[0], dtype=torch.float64) for _ in range(3))
        var = torch.rand(shape[0], dtype=torch.float64) + 0.5
        statistics = (mean, var) if norm == "frozen" else (None, None)
        tensors.append(UnitTensors(torch.randn(shape, dtype=torch.float64), None, gamma, beta, *statistics))
    return Chain(specs, tensors, torch.float64, plan_chain(specs, needs, needs_x, "none"))


def _stock(chain: Chain, x: Tensor, tensors: list[UnitTensors]) -> Tensor:
    for spec, unit in zip(chain.specs, tensors, strict=True):
        x = F.conv2d(x, unit.weight)
        if spec.norm == "frozen":
            x = F.batch_norm(x, unit.mean, unit.var, unit.gamma, unit.beta, False, 0.0, spec.eps)
        else:
            x = group_norm(x, spec.n_groups, unit.gamma, unit.beta, spec.eps)
        x = F.relu6(x) if spec.activation == "relu6" else x
    return x


def _random() -> Tensor:
    return channels_last(torch.randn(2, 4, *SIZE, dtype=torch.float64))


@pytest.mark.parametrize("needs_x", [True, False])
@pytest.mark.parametrize(
    "needs", [[ALL, ALL], [WEIGHT, NONE], [NONE, WEIGHT], [GAMMA, GAMMA], [BETA, NONE], [NONE, BETA]]
)
@pytest.mark.parametrize("norm", ["frozen", "group"])
def test_gradients_are_autograds_and_nothing_that_came_in_is_edited(
    norm: NormKind, needs: list[Needs], needs_x: bool
) -> None:
    chain, x, grad = _chain(norm, needs, needs_x), _random(), _random()
    _, kept = chain.forward(x, keeps=True)
    came_in = [x, grad, *(t for unit in kept for t in unit if t is not None)]
    before = [tensor.clone() for tensor in came_in]
    grads = ChainGrads(2)
    made = chain_backward(chain, grad, x, SIZE, kept, grads)
    found = [made, *chain.parameter_grads(grads)]
    assert all(torch.equal(now, then) for now, then in zip(came_in, before, strict=True))

    leaf = x.clone().requires_grad_()
    copies = [UnitTensors(*(t if t is None else t.clone() for t in unit)) for unit in chain.tensors]
    parameters = [unit[kind] for unit in copies for kind in range(4)]
    wanted = [needs_x, *(wants for need in needs for wants in need)]
    leaves = [t for t, wants in zip([leaf, *parameters], wanted, strict=True) if wants and t is not None]
    for tensor in leaves:
        tensor.requires_grad_()
    expected = iter(torch.autograd.grad(_stock(chain, leaf, copies), leaves, grad))
    for mine, wants in zip(found, wanted, strict=True):
        assert (mine is not None) == wants
        if mine is not None:
            torch.testing.assert_close(mine, next(expected))


def test_a_slice_adds_to_the_slices_before() -> None:
    chain, x, grad = _chain("group", [ALL, ALL], True), _random(), _random()
    whole, sliced = ChainGrads(2), ChainGrads(2)
    _, kept = chain.forward(x, keeps=True)
    total = chain_backward(chain, grad, x, SIZE, kept, whole)
    parts = []
    for row in (slice(0, 1), slice(1, 2)):
        _, kept = chain.forward(x[row], keeps=True)
        parts.append(chain_backward(chain, grad[row], x[row], SIZE, kept, sliced))
    torch.testing.assert_close(torch.cat(parts), total)  # type: ignore[arg-type]
    assert sliced.sums[0][ChainGrads.WEIGHT] is not None
    for mine, theirs in zip(chain.parameter_grads(sliced), chain.parameter_grads(whole), strict=True):
        assert mine is theirs is None or torch.allclose(mine, theirs)
