"""Lean networks with stored weights, and with convolutions that train in part, compute what stock does."""

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.lean_networks import (
    SETTINGS,
    assert_as_stock,
    assert_same_gradients,
    assert_same_outcome,
    converted,
    outcome,
    randomise_,
    tinytl_net,
    torchvision_net,
)
from tests.support.sampled import sampled
from tinytl.device import gpu_emulated
from tinytl.gradient_checkpoints.segment import insert_checkpoints_
from tinytl.memory_efficient.lean_modules import LeanConv2d
from tinytl.networks.backbones import BACKBONES
from tinytl.networks.stored_weights import StoredWeight, store_frozen_weights_, train_channels_, trained_part
from tinytl.networks.update_methods import apply_update_method_

HOW: dict[str, dict[str, Any]] = {
    "one slice": {},
    "slices": {"slice_mib": 0.4},
    "depthwise": {"recompute": "depthwise", "slice_mib": 0.4},
    "block": {"recompute": "block", "slice_mib": 0.4},
    "small blocks stock": {"stock_below_kib": 100.0},
    "all stock": {"stock_below_kib": 1e6},
}
METHODS = ("TinyTL-B", "TinyTL-L+B", "FT-Norm+Last")
FORMS = ("float32", "bfloat16", "int8")


def stored_net(backbone: str, method: str, norm: str, form: str) -> nn.Module:
    """A network of which half the channels of every second convolution train beside what `method` trains."""
    torch.manual_seed(0)
    if norm == "batch_norm":
        net = randomise_(BACKBONES[backbone].build(5))
        apply_update_method_(net, method)
        net.train()
    else:
        net = tinytl_net(backbone, method, norm)
    train_some_channels_(net)
    store_frozen_weights_(net, form)
    return net


def train_some_channels_(net: nn.Module, every: int = 2) -> None:
    convolutions = [
        conv
        for name, conv in net.named_modules()
        if isinstance(conv, nn.Conv2d) and "lite" not in name and conv.groups in (1, conv.in_channels)
    ]
    for conv in convolutions[1::every]:
        train_channels_(conv, torch.randperm(conv.in_channels)[: conv.in_channels // 2].tolist())


def batch(n: int = 4) -> Tensor:
    return torch.randn(n, 3, 64, 64, dtype=torch.float64).contiguous(memory_format=torch.channels_last)


CASES = [
    (backbone, method, norm, form, how)
    for (method, norm, how), (backbone, form) in zip(
        itertools.product(METHODS, ("frozen_bn", "group_norm", "batch_norm"), HOW),
        itertools.cycle(itertools.product(BACKBONES, FORMS)),
        strict=False,
    )
    if (method, norm) != ("TinyTL-L+B", "batch_norm")
]


@pytest.mark.parametrize(("backbone", "method", "norm", "form", "how"), sampled(CASES, 23))
def test_gradients_of_parts_are_those_of_stock(
    backbone: str, method: str, norm: str, form: str, how: str
) -> None:
    stock = stored_net(backbone, method, norm, form).double()
    lean = converted(stock, **HOW[how])
    parts = [trained_part(module) for module in lean.modules() if isinstance(module, StoredWeight)]
    assert any(part is not None for part in parts)
    assert_same_outcome(lean, stock, batch(), 1e-10)
    assert all(part is None or part.grad.norm() > 0 for part in parts)


@pytest.mark.parametrize(
    ("form", "setting"), sampled(list(zip(itertools.cycle(FORMS[:0:-1]), SETTINGS, strict=False)), 8)
)
def test_stored_weights_are_used_as_stock_does(form: str, setting: Any) -> None:
    for method, norm in (("TinyTL-B", "frozen_bn"), ("TinyTL-B", "group_norm")):
        net = tinytl_net("efficientnet_lite0", method, norm)
        store_frozen_weights_(net, form)
        assert_as_stock(converted(net), net, setting)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_networks_that_the_engine_was_not_written_for(name: str) -> None:
    stock = torchvision_net(name)
    for parameter_name, parameter in stock.named_parameters():
        parameter.requires_grad_(parameter_name.endswith("bias"))
    train_some_channels_(stock, every=3)
    store_frozen_weights_(stock, "int8")
    stock = stock.double()
    assert_same_outcome(converted(stock), stock, batch(), 1e-9)


def test_a_part_is_all_that_trains() -> None:
    """Backward stops at the first part: nothing before it has a gradient."""
    stock = tinytl_net("mobilenet_v2", "FT-Last", "frozen_bn").double()
    for index in (12, 15):
        train_channels_(stock.get_submodule(f"features.{index}.conv.0.0"), range(0, 96, 2))
    lean = converted(stock)
    assert_same_outcome(lean, stock, batch(), 1e-10)
    trained = {name for name, p in lean.named_parameters() if p.requires_grad}
    assert {name for name in trained if "weight_part" in name} == {
        "features.12.conv.0.0.weight_part",
        "features.15.conv.0.0.weight_part",
    }


def test_the_path_of_a_gpu() -> None:
    stock = stored_net("mobilenet_v2", "TinyTL-B", "group_norm", "int8").double()
    with gpu_emulated():
        assert_same_outcome(converted(stock), stock, batch(), 1e-10)


def test_autocast() -> None:
    stock = stored_net("mobilenet_v2", "TinyTL-B", "frozen_bn", "int8")
    lean, x = converted(stock), batch().float()
    truth, true_grads = outcome(copy.deepcopy(stock), x)
    with torch.autocast("cpu", torch.bfloat16):
        (mine, grads), (theirs, their_grads) = outcome(lean, x), outcome(stock, x)
    assert (mine - truth).norm() <= 2 * (theirs - truth).norm() + 0.02 * truth.norm()
    name = next(name for name in grads if name.endswith("weight_part"))
    assert grads[name].dtype is torch.float32
    off, their_off = ((some[name] - true_grads[name]).norm() for some in (grads, their_grads))
    assert off <= 2 * their_off + 0.02 * true_grads[name].norm()


def test_checkpoints_recompute_the_same() -> None:
    stock = stored_net("mobilenet_v2", "TinyTL-B", "batch_norm", "int8").double()
    other = copy.deepcopy(stock)
    insert_checkpoints_(other)
    (mine, my_grads), (theirs, their_grads) = outcome(other, x := batch()), outcome(stock, x)
    torch.testing.assert_close(mine, theirs)
    assert_same_gradients(my_grads, their_grads, 1e-10)


@pytest.mark.parametrize("part", [False, True])
def test_no_float_weight_and_no_other_channel_is_kept_for_backward(part: bool, kept_bytes: Any) -> None:
    """In a block, and in a convolution outside of one."""
    net = tinytl_net("mobilenet_v2", "FT-Last", "frozen_bn")
    block = net.get_submodule("features.15")
    if part:
        train_channels_(block.get_submodule("conv.0.0"), range(10))
    store_frozen_weights_(block, "int8")
    block = converted(block)
    conv = block.get_submodule("conv.0.0")
    assert isinstance(conv, LeanConv2d)
    x = torch.randn(2, 160, 5, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    known = [*block.parameters(), *block.buffers(), x]
    bits = 2 * 2 * 960 * 5 * 5 // 8  # of two activations
    chosen = 2 * 10 * 5 * 5 * 4 if part else 0
    assert kept_bytes(lambda: block(x), known) == bits + chosen
    assert kept_bytes(lambda: conv(x), known) == chosen


def test_other_channels_may_be_drawn_between_steps() -> None:
    stock = stored_net("mobilenet_v2", "TinyTL-B", "frozen_bn", "float32").double()
    lean, x = converted(stock), batch()
    assert_same_outcome(lean, stock, x, 1e-10)
    for net in (lean, stock):
        torch.manual_seed(9)
        train_some_channels_(net)
    assert_same_outcome(lean, stock, x, 1e-10)
