"""What the report says is kept is what torch keeps when the network really runs."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import convnext_tiny

from tests.support.lean_networks import plain_net
from tests.support.sampled import sampled
from tinytl.memory_efficient import make_memory_efficient_
from tinytl.memory_efficient.kept import find_kept


def sum_is_true(net, x, kept_bytes):
    known = [*net.parameters(), *net.buffers(), x]
    kept = find_kept(net, x)
    assert sum(one.mib for one in kept) == pytest.approx(kept_bytes(lambda: net(x), known) / 2**20)
    return kept


@pytest.mark.parametrize("name", sampled(["mobilenet_v3_small", "efficientnet_b0", "convnext_tiny"], 3))
def test_the_sum_is_what_torch_keeps(name, kept_bytes):
    net = convnext_tiny(num_classes=5).eval() if name == "convnext_tiny" else plain_net(name)
    x = torch.randn(2, 3, 64, 64)
    stock = sum(one.mib for one in sum_is_true(net, x, kept_bytes))
    assert not any(one.lean for one in find_kept(net, x))
    make_memory_efficient_(net)
    kept = sum_is_true(net, x, kept_bytes)
    if name != "convnext_tiny":  # a transformer's blocks, none of which is known
        assert sum(one.mib for one in kept) < stock and any(one.lean for one in kept)


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.act = nn.SiLU()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        x = F.gelu(F.relu(self.act(self.conv(x))))
        x = x.flatten(2).transpose(1, 2)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head((x * x.sigmoid()).mean(1))


def test_modules_and_functions_have_names(kept_bytes):
    net = Mixed().eval()
    for parameter in net.conv.parameters():
        parameter.requires_grad_(False)
    make_memory_efficient_(net)
    x = torch.randn(2, 3, 16, 16, requires_grad=True)
    found = {(one.module, one.what): one for one in sum_is_true(net, x, kept_bytes)}
    assert found["", "torch.nn.functional.gelu"].mib == 2 * 8 * 16 * 16 * 4 / 2**20
    of_relu = found["", "Mixed"]
    assert of_relu.lean and of_relu.mib == 2 * 8 * 16 * 16 / 8 / 2**20
    assert ("act", "SiLU") in found and ("", "torch.Tensor.sigmoid") in found
    assert any(module == "attention" and "attention" in what for module, what in found)
    assert "the network: torch.nn.functional.gelu" in str(found["", "torch.nn.functional.gelu"])
    assert not any(module == "conv" for module, _ in found)


def test_nothing_changes():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    before = copy.deepcopy(net.state_dict())
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    find_kept(net, torch.randn(2, 3, 4, 4, generator=torch.Generator()))
    assert torch.equal(torch.rand(1), expected)
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key])
    assert not torch.nn.modules.module._global_forward_hooks
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_network_that_reads_numbers_is_refused_in_torch_s_words():
    class Reads(nn.Module):
        def forward(self, x):
            return x * float(x.sum())

    with pytest.raises(RuntimeError, match="_local_scalar_dense"):
        find_kept(Reads(), torch.ones(1, 3, 4, 4))
    assert not torch.nn.modules.module._global_forward_pre_hooks
