"""Any classifier taken apart into blocks computes what it did before."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.lean_networks import randomise_
from tinytl.errors import ConfigError
from tinytl.networks.backbones.sequence import Call, as_sequence, layout_of, split_norms_

SIZE = (1, 3, 32, 32)


class Block(nn.Module):
    """A residual block if its widths allow."""

    def __init__(self, n: int, m: int, stride: int = 1) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(n, m, 3, stride, 1), nn.BatchNorm2d(m)
        self.adds = n == m and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.conv(x)))
        return x + y if self.adds else y


class Net(nn.Module):
    """Stem, two stages, and a head by functions and by modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4)
        self.stages = nn.Sequential(
            nn.Sequential(Block(4, 8, 2), Block(8, 8)),
            nn.Sequential(nn.AvgPool2d(2), Block(8, 12), Block(12, 12)),
        )
        self.last = nn.Conv2d(12, 16, 1)
        self.hidden, self.drop, self.fc = nn.Linear(16, 20), nn.Dropout(0.5), nn.Linear(20, 6)

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = F.relu6(self.norm(self.conv(x)))
        x = self.last(self.stages(x))
        x = x.mean([2, 3]).flatten(1)
        x = F.dropout(F.hardswish(self.hidden(x)), 0.2, self.training)
        return x if pre_logits else self.fc(self.drop(x))


def taken_apart(net: nn.Module):
    layout = layout_of(net, "net", torch.randn(SIZE))
    return as_sequence(net, layout), layout


def test_stem_blocks_and_head_are_features_and_the_last_linear_the_classifier():
    torch.manual_seed(0)
    net = randomise_(Net()).eval()
    made, layout = taken_apart(copy.deepcopy(net))
    x = torch.randn(2, *SIZE[1:])
    assert torch.equal(made.eval()(x), net(x))
    assert len(made.features) == 7 and type(made.features[3]) is nn.AvgPool2d
    assert [type(made.features[block.place]) for block in made.blocks] == [Block] * 4
    assert (
        made.blocks
        == layout.blocks
        == (
            (1, 4, 8, 2, 2.0),
            (2, 8, 8, 1, 4.0),
            (4, 8, 12, 1, 8.0),
            (5, 12, 12, 1, 8.0),
        )
    )
    assert made.classifier[-1].out_features == 6 and isinstance(made.classifier[0], nn.Dropout)
    assert not any(isinstance(module, nn.Dropout) for module in made.features.modules())
    assert sum(p.numel() for p in made.parameters()) == sum(p.numel() for p in net.parameters())


def test_training_reaches_every_parameter_with_the_gradients_of_the_network():
    net = randomise_(Net()).eval()
    made = taken_apart(copy.deepcopy(net))[0].eval()
    x = torch.randn(2, *SIZE[1:])
    grads = []
    for one in (net, made):
        one(x).square().sum().backward()
        found = sorted((p.grad.numel(), float(p.grad.norm())) for p in one.parameters())
        grads.append([number for pair in found for number in pair])
    assert grads[0] == pytest.approx(grads[1])


class TwoInputs(Net):
    def forward(self, x: Tensor) -> Tensor:
        y = self.stages(F.relu6(self.norm(self.conv(x))))
        return self.fc(self.hidden(self.last(y).mean([2, 3]) + y.mean()))


class ReadsNumbers(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > 0 else -x)


class HeadIsConvolution(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3), Block(4, 4), nn.Conv2d(4, 6, 1), nn.AdaptiveAvgPool2d(1))


class Activated(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(Block(3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 6), nn.ReLU())


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (TwoInputs, "no sequence of blocks"),
        (ReadsNumbers, "no sequence of blocks"),
        (HeadIsConvolution, "does not end in a linear layer"),
        (Activated, "does not end in a linear layer"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(3600, 6)), "it has no blocks"),
    ],
)
def test_what_cannot_be_taken_apart_is_refused_with_the_reason(kind, why):
    with pytest.raises(ConfigError, match=f"^net: .*{why}"):
        taken_apart(kind().eval())


def test_a_norm_that_activates_becomes_two_modules_with_the_same_tensors():
    norm_act = pytest.importorskip("timm.layers.norm_act")
    net = nn.Sequential(norm_act.BatchNormAct2d(4), norm_act.BatchNormAct2d(4, apply_act=False)).eval()
    randomise_(net)
    x, before = torch.randn(2, 4, 5, 5), dict(net.state_dict(keep_vars=True))
    y = net(x)
    split_norms_(net)
    assert type(net[0][0]) is type(net[1]) is nn.BatchNorm2d and type(net[0][1]) is nn.ReLU
    assert torch.equal(net(x), y)
    after = net.state_dict(keep_vars=True)
    assert after["0.0.running_mean"] is before["0.running_mean"] and after["1.bias"] is before["1.bias"]


def test_a_call_prints_its_function_and_passes_constants():
    x = torch.arange(6.0).reshape(1, 2, 3)
    assert torch.equal(Call("flatten", (1,), {})(x), x.flatten(1))
    assert torch.equal(Call(torch.flatten, (), {"start_dim": 1})(x), x.flatten(1))
    assert repr(Call("mean", ([2, 3],), {})) == "Call(mean)"
    assert repr(Call(torch.flatten, (), {})) == "Call(flatten)"
