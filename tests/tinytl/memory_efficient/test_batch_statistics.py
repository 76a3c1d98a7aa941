"""Blocks with batch norm in training mode: stock's gradients and running statistics, keeping less."""

import copy
import itertools
import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.support.lean_networks import assert_refused_alike, converted, randomise_, tinytl_net
from tests.support.sampled import sampled
from tinytl.gradient_checkpoints.segment import insert_checkpoints_
from tinytl.memory_efficient import Execution, make_memory_efficient_
from tinytl.memory_efficient.block.unit import Recompute
from tinytl.networks.backbones import BACKBONES
from tinytl.networks.update_methods import apply_update_method_

RECOMPUTE: dict[str, Callable[[nn.Module], object]] = {
    "none": lambda net: make_memory_efficient_(net),
    "depthwise": lambda net: make_memory_efficient_(net, Execution(recompute="depthwise")),
    "block": lambda net: make_memory_efficient_(net, Execution(recompute="block")),
    "checkpoints": lambda net: (
        make_memory_efficient_(net, Execution(recompute="block")),
        insert_checkpoints_(net),
    ),
}


def pair(backbone: str, method: str) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    net = tinytl_net(backbone, method, "batch_norm")
    randomise_(net).train().double()
    apply_update_method_(net, method)
    for module in net.train().modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return net, copy.deepcopy(net)


def step(net: nn.Module, x: Tensor) -> Tensor:
    y = net(x)
    y.square().sum().backward()
    return y.detach()


def assert_same(lean: nn.Module, stock: nn.Module) -> None:
    for (name, own), theirs in zip(lean.named_parameters(), stock.parameters(), strict=True):
        assert (own.grad is None) == (theirs.grad is None), name
        if own.grad is not None:
            torch.testing.assert_close(own.grad, theirs.grad, rtol=1e-9, atol=1e-9, msg=name)
    for (name, own), theirs in zip(lean.named_buffers(), stock.buffers(), strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-12, atol=1e-12, msg=name)


TWO_STEPS = itertools.product(("FT-Full", "FT-Norm+Last", "FT-Last", "TinyTL-B", "TinyTL-L+B"), RECOMPUTE)


@pytest.mark.parametrize(("method", "recompute"), sampled(TWO_STEPS, 7))
def test_two_steps_give_stock_s_gradients_and_running_statistics(method: str, recompute: str) -> None:
    backbone = list(BACKBONES)[len(method) % 3]
    lean, stock = pair(backbone, method)
    RECOMPUTE[recompute](lean)
    for _ in range(2):
        x = torch.randn(3, 3, 64, 64, dtype=torch.float64)
        torch.testing.assert_close(step(lean, x), step(stock, x), rtol=1e-10, atol=1e-10)
    assert_same(lean, stock)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(lean.eval()(x), stock.eval()(x), rtol=1e-10, atol=1e-10)


def test_two_forwards_before_one_backward() -> None:
    lean, stock = pair("mobilenet_v2", "FT-Full")
    make_memory_efficient_(lean)
    first, second = (torch.randn(2, 3, 64, 64, dtype=torch.float64) for _ in range(2))
    for net in (lean, stock):
        (net(first).sum() * 2 + net(second).square().sum()).backward()
    assert_same(lean, stock)


def small_block(**settings: object) -> nn.Sequential:
    block = nn.Sequential(
        *(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6, **settings), nn.ReLU6()),
        *(nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.BatchNorm2d(6, **settings), nn.ReLU6()),
        *(nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4, **settings)),
    )
    return randomise_statistics_(block).train().double()


def randomise_statistics_(net: nn.Module) -> nn.Module:
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
    return net


@pytest.mark.parametrize(
    "settings",
    [{}, {"momentum": None}, {"momentum": 0.0}, {"affine": False}, {"track_running_stats": False}],
    ids=str,
)
def test_every_setting_of_batch_norm(settings: dict[str, object]) -> None:
    stock = small_block(**settings)
    lean = copy.deepcopy(stock)
    report = make_memory_efficient_(lean)
    assert report.blocks and not report.batch_statistics
    for _ in range(2):
        x = torch.randn(3, 4, 7, 7, dtype=torch.float64)
        torch.testing.assert_close(step(lean, x), step(stock, x), rtol=1e-12, atol=1e-12)
    assert_same(lean, stock)
    for net in (lean, stock):
        net.eval()
    x = torch.randn(3, 4, 7, 7, dtype=torch.float64)
    torch.testing.assert_close(step(lean, x), step(stock, x), rtol=1e-10, atol=1e-10)


def test_a_norm_that_was_told_to_keep_its_statistics_keeps_them() -> None:
    stock = small_block()
    lean = converted(stock)
    for net in (lean, stock):
        net[1].track_running_stats = False
        step(net, torch.ones(2, 4, 7, 7, dtype=torch.float64).cumsum(2))
    assert_same(lean, stock)


def test_one_value_per_channel_is_refused_in_stock_s_words() -> None:
    stock = small_block()
    x = torch.ones(1, 4, 1, 1, dtype=torch.float64)
    assert_refused_alike(converted(stock), stock, x, ValueError)


def test_a_block_keeps_one_map_per_norm_and_its_input(kept_bytes: Callable[..., int]) -> None:
    lean = converted(small_block())
    x = torch.randn(8, 4, 16, 16, dtype=torch.float64, requires_grad=True)
    maps = 8 * 16 * 16 * 8 * (4 + 6 + 6 + 4)
    known = [*lean.parameters(), *lean.buffers()]
    assert maps <= kept_bytes(lambda: lean(x), known) <= 1.01 * maps


@pytest.mark.parametrize("recompute", ["none", "depthwise"])
@pytest.mark.parametrize("activation", [nn.ReLU6, nn.Hardswish])
@pytest.mark.parametrize("input_too", [False, True])
def test_any_parameters_may_train(input_too: bool, activation: type[nn.Module], recompute: Recompute) -> None:
    draw = random.Random(0)
    for _ in range(25):
        stock = small_block()
        stock[2], stock[5] = activation(), activation()
        for parameter in stock.parameters():
            parameter.requires_grad_(draw.random() < 0.3)
        lean = converted(stock, recompute=recompute)
        own = torch.randn(3, 4, 7, 7, dtype=torch.float64)
        theirs = own.clone()
        for net, x in ((lean, own), (stock, theirs)):
            x.requires_grad_(input_too)
            y = net(x)
            if y.requires_grad:
                y.square().sum().backward()
        assert_same(lean, stock)
        if input_too:
            torch.testing.assert_close(own.grad, theirs.grad, rtol=1e-9, atol=1e-9)
