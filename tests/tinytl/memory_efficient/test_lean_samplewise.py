"""Blocks in slices, and recomputed: the gradients are stock's, whatever the block computes."""

import copy
import pickle
import weakref

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import efficientnet_b0, mobilenet_v3_small, shufflenet_v2_x0_5
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.ops import StochasticDepth

from tests.support.lean_networks import (
    assert_same_outcome,
    assert_stand_ins_are_differentiated,
    converted,
    outcome,
    randomise_,
)
from tinytl.memory_efficient import (
    Execution,
    make_memory_efficient_,
    register_samplewise,
    undo_memory_efficient_,
)
from tinytl.memory_efficient.lean_samplewise import LeanSamplewise


class Gated(nn.Module):
    """A residual block with a gate, of a class that nobody else knows."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(4, 12, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 12, 1), nn.Sigmoid())
        self.drop = nn.Dropout(0.5)
        self.narrow = nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.silu(self.norm(self.wide(x)))
        return x + self.narrow(self.drop(y * self.gate(y)))


register_samplewise(Gated)


def gated_net() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), Gated(), Gated(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return randomise_(nn.Sequential(*net, nn.Linear(4, 5))).eval()


def small_convnext() -> nn.Module:
    stages = [CNBlockConfig(8, 16, 2), CNBlockConfig(16, 24, 2), CNBlockConfig(24, None, 1)]
    net = ConvNeXt(stages, stochastic_depth_prob=0.0, num_classes=5)
    for name, parameter in net.named_parameters():
        if name.endswith("layer_scale"):
            nn.init.uniform_(parameter, 0.5, 1)
    return net.eval()


NETS = {
    "efficientnet_b0": lambda: efficientnet_b0(num_classes=5),
    "mobilenet_v3_small": lambda: mobilenet_v3_small(num_classes=5),
    "shufflenet_v2": lambda: shufflenet_v2_x0_5(num_classes=5),
    "convnext": small_convnext,
    "gated": gated_net,
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("slice_mib", [0.05, 50])
@pytest.mark.parametrize("recompute", ["none", "block"])
def test_gradients_are_those_of_stock(name, slice_mib, recompute):
    net = randomise_(NETS[name]()).eval().double()
    lean = converted(net, recompute=recompute, slice_mib=slice_mib)
    blocks = [module for module in lean.modules() if isinstance(module, LeanSamplewise)]
    assert blocks
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(5, 3, 64, 64, dtype=torch.float64).contiguous(memory_format=layout)
        assert_same_outcome(lean, net, x, 1e-10)
        assert lean(x).stride() == net(x).stride()


@pytest.mark.parametrize("trained", ["bias", "wide.weight", "1.narrow", "2."])
@pytest.mark.parametrize("recompute", ["none", "block"])
def test_what_is_frozen_gets_no_gradient_and_costs_none(trained, recompute):
    net = gated_net().double()
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(trained in name)
    lean = converted(net, recompute=recompute, slice_mib=0.01)
    x = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    assert_same_outcome(lean, net, x, 1e-10)


def test_only_the_input_of_each_block_is_kept():
    net = gated_net()
    kept = {}
    for recompute in ("none", "block"):
        saved: list[int] = []
        lean = converted(net, recompute=recompute, slice_mib=0.05)

        def note(tensor: Tensor, saved: list[int] = saved) -> Tensor:
            saved.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            lean(torch.randn(4, 3, 32, 32))
        kept[recompute] = sum(saved)
    assert kept["block"] < 0.5 * kept["none"]


def test_dropout_draws_the_same_numbers_in_backward_and_leaves_the_generator_alone():
    net = gated_net().double()
    for module in net.modules():
        module.training = isinstance(module, nn.Dropout)
    lean = converted(net, recompute="block", slice_mib=50)
    x = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    lean(x)  # measures the block, once
    assert_same_outcome(lean, net, x, 1e-10)
    outcome(lean, x)
    after = torch.get_rng_state()
    outcome(net, x)
    assert torch.equal(after, torch.get_rng_state())


def test_dropout_in_slices_is_differentiated_as_it_was_drawn():
    block = Gated().double().eval()
    block.drop.train()
    make_memory_efficient_(block, Execution(recompute="block", slice_mib=0.01))
    assert isinstance(block, LeanSamplewise)
    x = torch.randn(4, 4, 16, 16, dtype=torch.float64, requires_grad=True)
    direction = torch.randn_like(x)

    def value(shift: float) -> Tensor:
        torch.manual_seed(7)
        return block(x + shift * direction).square().sum()

    (grad,) = torch.autograd.grad(value(0.0), x)
    slope = (value(1e-5) - value(-1e-5)) / 2e-5
    assert torch.allclose((grad * direction).sum(), slope, rtol=1e-6)


def test_stochastic_depth_is_drawn_again():
    net = efficientnet_b0(num_classes=5, stochastic_depth_prob=0.9).eval()
    lean = converted(net, recompute="block", slice_mib=50)
    for one in (net, lean):
        for module in one.modules():
            module.training = isinstance(module, StochasticDepth)
    x = torch.randn(3, 3, 32, 32)
    lean(x)
    assert_same_outcome(lean.double(), net.double(), x.double(), 1e-10)


def test_with_batch_statistics_or_hooks_it_runs_as_it_is():
    net = gated_net().double()
    lean = converted(net, recompute="block", slice_mib=0.01)
    x = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    for one in (net, lean):
        one.train()
        one[1].drop.p = one[2].drop.p = 0.0
    assert_same_outcome(lean, net, x, 1e-10)
    assert torch.equal(lean[1].norm.running_mean, net[1].norm.running_mean)
    lean.eval()
    seen = []
    lean[1].gate.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    outcome(lean, x)
    assert seen == [4]


@pytest.mark.parametrize("recompute", ["none", "block"])
def test_parameters_that_stand_in_for_a_call_are_differentiated(recompute):
    net, x = gated_net().double(), torch.randn(3, 3, 16, 16, dtype=torch.float64)
    lean = converted(net, recompute=recompute, slice_mib=0.01)
    assert_stand_ins_are_differentiated(net, lean, x, 1e-12)


def test_autocast_is_as_in_forward():
    net = gated_net()
    lean = converted(net, recompute="block", slice_mib=50)
    x = torch.randn(3, 3, 16, 16)
    grads = []
    for one in (net, lean):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = one(x).float().square().sum()
        grads.append(torch.autograd.grad(loss, list(one.parameters())))
    for mine, theirs in zip(*grads, strict=True):
        assert mine.dtype is theirs.dtype
        assert torch.allclose(mine, theirs, rtol=0.1, atol=0.02 * float(theirs.abs().max()))


def test_a_slice_keeps_no_input_that_backward_does_not_read():
    net = gated_net().requires_grad_(False)
    net[0].bias.requires_grad_(True)
    lean = converted(net[:3], slice_mib=0.01)
    lean[1].wide.requires_grad_(False)
    x = lean[0](torch.randn(4, 3, 16, 16))
    kept = weakref.ref(x.untyped_storage())
    y = lean[1](x)
    del x
    assert y.requires_grad and kept() is None


def test_a_second_backward_says_what_is_gone():
    lean = converted(gated_net(), slice_mib=0.01)
    loss = lean(torch.randn(4, 3, 16, 16)).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="leave out retain_graph=True, or give the net its own forward"):
        loss.backward()


@pytest.mark.parametrize("recompute", ["none", "block"])
def test_a_second_derivative_is_refused(recompute):
    lean = converted(gated_net(), recompute=recompute, slice_mib=0.01)
    x = torch.randn(2, 3, 16, 16, requires_grad=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(lean(x).sum(), x, create_graph=True)


def test_copies_are_recomputed_and_undoing_is_whole():
    lean = converted(gated_net(), recompute="block")
    x = torch.randn(2, 3, 16, 16)
    before = lean(x)
    for other in (copy.deepcopy(lean), pickle.loads(pickle.dumps(lean))):
        assert isinstance(other[1], LeanSamplewise) and torch.equal(other(x), before)
    undo_memory_efficient_(lean)
    assert type(lean[1]) is Gated and not any("lean" in name for name in vars(lean[1]))
    assert torch.equal(lean(x), before)


def test_the_report_names_them_and_a_class_is_registered_once():
    report = make_memory_efficient_(gated_net())
    assert report.samplewise == ["1", "2"]
    assert "2 blocks run a few samples at a time, and keep their input alone if recompute" in str(report)
    with pytest.raises(ValueError, match="Gated is registered already"):
        register_samplewise(Gated)
