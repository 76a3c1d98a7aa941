"""Modules as people write them: shared, subclassed, replicated, misused."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.support.lean_networks import SETTINGS, assert_as_stock, assert_refused_alike
from tests.support.sampled import sampled
from tinytl.memory_efficient import make_memory_efficient_


class EditsAnswers(nn.Module):
    """Edits in place what blocks answer, and reads its memory, as networks of the field do."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 1), nn.ReLU6())
        self.first = nn.Sequential(nn.Conv2d(32, 32, 1, bias=False), nn.BatchNorm2d(32))
        self.second = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.GroupNorm(4, 32))
        self.third = nn.Conv2d(32, 32, 1)
        self.norm = nn.BatchNorm2d(32)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(32 * 2 * 2, 5)

    def forward(self, x):
        x = self.stem(x)
        y = self.first(x)
        y += x
        F.silu(y, inplace=True)
        z = self.second(y)
        z *= 0.5
        z = F.relu_(z)
        z = self.norm(self.third(z)).clamp_(min=-1)
        z = self.pool(z)
        flat = z.view(len(z), -1) if z.is_contiguous() else z.permute(0, 2, 3, 1).reshape(len(z), -1)
        return self.head(flat)


@pytest.mark.parametrize("setting", sampled(SETTINGS, 5), ids=str)
def test_a_network_may_edit_and_view_what_it_gets(setting):
    net = EditsAnswers().eval()
    lean, stock = both(net)
    assert_as_stock(lean, stock, setting)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("trained", [True, False])
def test_a_contiguous_batch_may_be_viewed_after_every_module(trained, dtype):
    net = EditsAnswers().eval().to(dtype).requires_grad_(trained)
    lean, _ = both(net)
    x = torch.randn(2, 3, 64, 64, dtype=dtype)
    for module in (lean.stem, lean.first, lean.second, lean.third, lean.norm, lean.pool):
        x = module(x)
        assert x.view(len(x), -1).shape[0] == 2


def both(net):
    lean = copy.deepcopy(net)
    make_memory_efficient_(lean)
    return lean, net


def test_a_module_that_stands_twice_in_a_sequence_runs_twice():
    act, conv = nn.ReLU6(), nn.Conv2d(4, 4, 3, padding=1)
    net = nn.Sequential(conv, act, nn.Conv2d(4, 4, 1), act, conv, act).double()
    lean, stock = both(net)
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(lean(x), stock(x))
    for one in (lean, stock):
        one(x).square().sum().backward()
    torch.testing.assert_close(lean[0].weight.grad, stock[0].weight.grad)


class OwnReLU(nn.ReLU):
    pass


class OwnHardswish(nn.Hardswish):
    pass


@pytest.mark.parametrize("kind", [OwnReLU, OwnHardswish])
def test_subclasses_of_activations(kind):
    lean, stock = both(nn.Sequential(nn.Conv2d(3, 4, 1), kind()))
    x = torch.randn(1, 3, 5, 5)
    torch.testing.assert_close(lean(x), stock(x))


def test_a_frozen_norm_of_16_bits_is_computed_in_32():
    norm = nn.BatchNorm2d(8).eval()
    norm.running_mean.fill_(100.0)
    lean, stock = both(norm)
    x = (100 + torch.randn(2, 8, 5, 5)).bfloat16()
    torch.testing.assert_close(lean(x), stock(x), rtol=0, atol=0)


def test_replicas_run_as_stock():
    lean, stock = both(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
    replica = lean._replicate_for_data_parallel()
    for name, child in lean.named_children():
        inner = child._replicate_for_data_parallel()
        for key, parameter in child._parameters.items():
            setattr(inner, key, parameter.clone())  # no longer parameters, as DataParallel leaves them
        replica._modules[name] = inner
    x = torch.randn(1, 3, 5, 5)
    torch.testing.assert_close(replica(x), stock(x))


@pytest.mark.parametrize(
    ("net", "x"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.randn(1, 3, 2, 2)),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.randn(1, 3, 8, 8, dtype=torch.float64)),
        (nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)),
        (nn.BatchNorm2d(1).eval(), torch.randn(1, 5, 8, 8)),
    ],
)
def test_what_stock_refuses_is_refused_in_its_words(net, x):
    lean, stock = both(net)
    assert_refused_alike(lean, stock, x, RuntimeError)


def test_a_class_of_lean_modules_can_be_constructed():
    lean, _ = both(nn.Conv2d(3, 4, 3))
    other = type(lean)(3, 4, 3)
    assert other(torch.randn(1, 3, 5, 5)).shape == (1, 4, 3, 3)
