import itertools
import logging

import pytest
import torch
from torch import nn

from tinytl.networks import group_norm as of_norm
from tinytl.networks.group_norm import replace_bn_with_gn


@pytest.mark.parametrize(
    ("channels", "wanted", "size"),
    [(32, 8, 8), (24, 16, 12), (40, 16, 10), (6, 8, 6), (7, 4, 1), (32, 1, 1), (96, 64, 48)],
)
def test_a_group_size_that_does_not_divide_shrinks_and_is_logged(
    channels: int, wanted: int, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    net = nn.Sequential(nn.BatchNorm2d(channels))
    with caplog.at_level(logging.INFO, "tinytl.networks.group_norm"):
        assert replace_bn_with_gn(net, wanted) == ["0"]
    norm = net[0]
    assert isinstance(norm, nn.GroupNorm)
    assert (norm.num_groups, norm.num_channels) == (channels // size, channels)
    shrunk = [] if size == wanted else [f"0: {channels} channels, groups of {size} instead of {wanted}"]
    assert caplog.messages == shrunk


def test_weight_bias_and_eps_carry_over() -> None:
    old = nn.BatchNorm2d(16, eps=1e-3)
    nn.init.uniform_(old.weight)
    nn.init.uniform_(old.bias)
    net = nn.Sequential(old)
    replace_bn_with_gn(net)
    assert torch.equal(net[0].weight, old.weight)
    assert torch.equal(net[0].bias, old.bias)
    assert net[0].eps == 1e-3
    assert net[0].num_groups == 2


def test_each_group_is_normalised_on_its_own() -> None:
    net = nn.Sequential(nn.BatchNorm2d(4))
    replace_bn_with_gn(net, 2)
    x = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0)) * 7 + 3
    groups = net(x).reshape(3, 2, -1)
    assert groups.mean(-1).abs().max() < 1e-5
    assert (groups.var(-1, correction=0) - 1).abs().max() < 1e-4


def test_nothing_but_batch_norm_is_replaced() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.LayerNorm(4), nn.GroupNorm(1, 8))
    assert replace_bn_with_gn(net) == []


def test_parameters_stay_the_ones_that_they_were() -> None:
    old = nn.BatchNorm2d(16).double().eval()
    old.weight.requires_grad_(False)
    net = nn.Sequential(old)
    replace_bn_with_gn(net)
    norm = net[0]
    assert norm.weight is old.weight and norm.bias is old.bias
    assert (norm.weight.requires_grad, norm.bias.requires_grad) == (False, True)
    assert norm.weight.dtype == torch.float64 and not norm.training
    assert net(torch.randn(2, 16, 3, 3, dtype=torch.float64)).dtype == torch.float64


def test_a_network_on_another_device_stays_there() -> None:
    net = nn.Sequential(nn.BatchNorm2d(16, device="meta"))
    replace_bn_with_gn(net)
    assert net[0].weight.device.type == "meta"


def test_a_norm_without_parameters_has_none_afterwards() -> None:
    net = nn.Sequential(nn.BatchNorm2d(16, affine=False))
    replace_bn_with_gn(net)
    assert not list(net.parameters()) and not net[0].affine
    assert net(torch.randn(2, 16, 3, 3)).shape == (2, 16, 3, 3)


@pytest.mark.parametrize("kernel_needs_it", [True, False])
@pytest.mark.parametrize("wants", list(itertools.product((False, True), repeat=3)))
def test_a_norm_trains_with_and_without_a_gradient_of_its_input(
    wants: tuple[bool, ...], kernel_needs_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is done for an older torch changes no gradient, and asks for none that nobody wants."""
    monkeypatch.setattr(of_norm, "NEEDS_INPUT_GRADIENT", of_norm.NEEDS_INPUT_GRADIENT or kernel_needs_it)
    x = torch.randn(2, 8, 3, 3, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    norm = of_norm.GroupNorm(2, 8).double()
    norm.weight.requires_grad_(wants[1]), norm.bias.requires_grad_(wants[2])
    y = norm(x.requires_grad_(wants[0]))
    assert y.requires_grad == any(wants)
    grouped = x.detach().reshape(2, 2, -1)
    unit = (grouped - grouped.mean(2, keepdim=True)) / (
        grouped.var(2, correction=0, keepdim=True) + 1e-5
    ).sqrt()
    torch.testing.assert_close(y.detach(), unit.reshape(x.shape))
    if any(wants):
        grad = torch.randn_like(y)
        y.backward(grad)
        assert [t.grad is not None for t in (x, norm.weight, norm.bias)] == list(wants)
        if wants[1]:
            torch.testing.assert_close(norm.weight.grad, (grad * unit.reshape(x.shape)).sum((0, 2, 3)))
        if wants[2]:
            torch.testing.assert_close(norm.bias.grad, grad.sum((0, 2, 3)))
