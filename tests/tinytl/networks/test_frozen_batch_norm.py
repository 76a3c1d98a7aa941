import copy
import itertools
import pickle

import pytest
import torch
from torch import nn

from tests.support.cases import exists, small
from tests.support.sampled import sampled
from tinytl.build import build_model
from tinytl.config.names import METHODS
from tinytl.networks.frozen_batch_norm import FrozenBatchNorm1d, FrozenBatchNorm2d, freeze_bn_
from tinytl.networks.group_norm import replace_bn_with_gn


def _norm() -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(4, eps=1e-3, momentum=0.01)
    generator = torch.Generator().manual_seed(0)
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        assert tensor is not None
        tensor.copy_(torch.rand(4, generator=generator) + 0.5)
    return norm


def test_frozen_norm_equals_batch_norm_in_evaluation_also_under_train() -> None:
    norm = _norm()
    net = nn.Sequential(norm)
    assert freeze_bn_(net) == ["0"]
    x = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    expected = norm.eval()(x)
    assert torch.equal(net.train()(x), expected)
    assert torch.equal(net.eval()(x), expected)


def test_statistics_stay_and_parameters_carry_over() -> None:
    norm = _norm()
    net = nn.Sequential(norm)
    freeze_bn_(net)
    frozen = net.train()[0]
    assert isinstance(frozen, FrozenBatchNorm2d)
    assert not frozen.training
    frozen(torch.randn(2, 4, 3, 3))
    assert {name: t.tolist() for name, t in frozen.state_dict().items()} == {
        name: t.tolist() for name, t in norm.state_dict().items()
    }
    assert (frozen.eps, frozen.momentum) == (1e-3, 0.01)


@pytest.mark.parametrize(("method", "engine"), sampled(itertools.product(METHODS, ("stock", "lean")), 5))
def test_statistics_of_a_network_stay_whatever_is_called(method: str, engine: str) -> None:
    if not exists(method, "frozen_bn"):
        return
    net = build_model(small(method=method, norm="frozen_bn", engine=engine)).net
    for one in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        before = {name: buffer.clone() for name, buffer in one.named_buffers()}
        assert len(before) >= 3 * 52
        one.train()
        one.get_submodule("features").train()
        for module in one.modules():
            module.train()
        one(torch.randn(2, 3, 32, 32)).sum().backward()
        one.eval()
        one.train(True)
        one(torch.randn(2, 3, 32, 32))
        assert all(torch.equal(buffer, before[name]) for name, buffer in one.named_buffers())
    assert one.training


@pytest.mark.parametrize("method", ["FT-Last", "TinyTL-L+B", "Last-3"])
def test_under_batch_norm_the_statistics_of_frozen_layers_follow_the_images(method: str) -> None:
    net = build_model(small(method=method, norm="batch_norm", resolution=64)).net
    net(torch.randn(4, 3, 64, 64) + 3)
    buffers = {name: b for name, b in net.named_buffers() if name.endswith("running_mean")}
    assert len(buffers) >= 52
    assert all(buffer.any() for buffer in buffers.values())


def test_weight_and_bias_get_gradients() -> None:
    net = nn.Sequential(_norm())
    freeze_bn_(net)
    net.train()(torch.ones(2, 4, 3, 3)).sum().backward()
    assert net[0].bias.grad.tolist() == [18.0] * 4
    assert net[0].weight.grad.abs().min() > 0


def test_freezing_twice_changes_nothing() -> None:
    net = nn.Sequential(_norm())
    freeze_bn_(net)
    frozen = net[0]
    assert freeze_bn_(net) == []
    assert net[0] is frozen


def test_norms_of_vectors_are_frozen_and_replaced_too() -> None:
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16))
    x = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(2))
    alike = copy.deepcopy(net).eval()(x)
    frozen = copy.deepcopy(net)
    assert freeze_bn_(frozen) == ["1"]
    assert isinstance(frozen.train()[1], FrozenBatchNorm1d) and torch.equal(frozen(x), alike)
    assert torch.equal(frozen(x[:1]), alike[:1])  # one image has no statistics
    assert replace_bn_with_gn(net) == ["1"]
    assert torch.equal(net(x)[:1], net(x[:1]))
