"""Networks that the tests of this folder make lean, and a check that two of them compute the same."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torchvision.models import (
    efficientnet_b0,
    mobilenet_v2,
    mobilenet_v3_large,
    mobilenet_v3_small,
    resnet18,
)

from tinytl.config.train_config import TrainConfig
from tinytl.memory_efficient import Execution, make_memory_efficient_
from tinytl.networks.backbones import BACKBONES
from tinytl.networks.frozen_batch_norm import freeze_bn_
from tinytl.networks.group_norm import replace_bn_with_gn
from tinytl.networks.lite_residual import LiteResidualModule, insert_lite_residual
from tinytl.networks.update_methods import apply_update_method_
from tinytl.networks.update_scheme import scheme_of

TORCHVISION: dict[str, Callable[..., nn.Module]] = {
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3_small": mobilenet_v3_small,
    "resnet18": resnet18,
    "mobilenet_v3_large": mobilenet_v3_large,
    "efficientnet_b0": efficientnet_b0,
}
NETS = (*BACKBONES, "mobilenet_v3_small", "resnet18")
"""Ours, and two of torchvision's that the engine was not written for."""


class Setting(NamedTuple):
    """What decides, beside the network, which kernels run."""

    dtype: torch.dtype
    resolution: int
    layout: torch.memory_format

    def batch(self, n_samples: int = 2) -> Tensor:
        x = torch.randn(n_samples, 3, self.resolution, self.resolution, dtype=self.dtype)
        return x.contiguous(memory_format=self.layout)

    def __str__(self) -> str:
        return "-".join(str(part).removeprefix("torch.") for part in self)


SETTINGS = tuple(
    Setting(dtype, resolution, layout)
    for resolution in (64, 224)
    for layout in (torch.contiguous_format, torch.channels_last)
    for dtype in (torch.float64, torch.float32)
)
"""A list of cases takes them in turn, so that over the list each is met with each kind of network."""


def randomise_(net: nn.Module) -> nn.Module:
    """Statistics and parameters as training might leave them: zeros hide mistakes."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return net


def tinytl_net(backbone: str, method: str, norm: str, resolution: int = 64) -> nn.Module:
    """One of our backbones in training mode, its surgery done."""
    net = BACKBONES[backbone].build(5)
    if "-L" in method and method.startswith("TinyTL"):
        insert_lite_residual(net, resolution=resolution)
    if norm == "group_norm":
        replace_bn_with_gn(net)
    else:
        for module in net.modules():
            if isinstance(module, LiteResidualModule):
                replace_bn_with_gn(module.lite_residual)
        freeze_bn_(net)
    randomise_(net)
    sparse = TrainConfig(backbone=backbone, method="Sparse")
    apply_update_method_(net, method, scheme_of(sparse) if method == "Sparse" else None)
    return net.train()


def torchvision_net(name: str) -> nn.Module:
    """One of torchvision's, in evaluation mode."""
    return randomise_(TORCHVISION[name](num_classes=5)).eval()


def plain_net(name: str) -> nn.Module:
    """One of `NETS` with its own batch norms, all of it trainable, in evaluation mode."""
    if name not in BACKBONES:
        return torchvision_net(name)
    return randomise_(BACKBONES[name].build(5)).eval()


def converted(net: nn.Module, **how: object) -> nn.Module:
    """A lean copy."""
    lean = copy.deepcopy(net)
    make_memory_efficient_(lean, Execution(**how))
    return lean


def outcome(net: nn.Module, x: Tensor, seed: int = 0) -> tuple[Tensor, dict[str, Tensor | None]]:
    """Logits, and the gradient of each parameter."""
    torch.manual_seed(seed)
    net.zero_grad(set_to_none=True)
    logits = net(x)
    F.cross_entropy(logits, torch.arange(len(x)) % 5).backward()
    return logits.detach(), {name: p.grad for name, p in net.named_parameters()}


def assert_refused_alike(lean: nn.Module, stock: nn.Module, x: Tensor, kind: type[Exception]) -> None:
    """Checks that both refuse `x` with an error of that kind, in the same words."""
    messages = []
    for one in (lean, stock):
        with pytest.raises(kind) as caught:
            one(x)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def assert_as_stock(lean: nn.Module, stock: nn.Module, setting: Setting) -> None:
    """Checks that `lean` computes what `stock` does on a batch; both get the setting's type.

    In float32 a lean network may be no further from the truth, in float64, than twice as far as stock's: its
    answer, and the gradient of each parameter. A gradient may be as much further as the kinks move it that
    rounding cannot tell the side of; in a map of few pixels one of them moves it by percents.
    """
    x = setting.batch()
    lean, stock = lean.to(setting.dtype), stock.to(setting.dtype)
    if setting.dtype is torch.float64:
        assert_same_outcome(lean, stock, x, 1e-10)
        return
    exact = copy.deepcopy(stock).double()
    truth, true_grads = outcome(exact, x.double())
    largest = max(grad.norm() for grad in true_grads.values() if grad is not None)
    (mine, my_grads), (theirs, their_grads) = (outcome(one, x) for one in (lean, stock))
    assert error(mine.double(), truth) <= 2 * error(theirs.double(), truth) + 3e-3
    assert my_grads.keys() == their_grads.keys()
    further = {}
    for name, true in true_grads.items():
        one, other = my_grads[name], their_grads[name]
        assert (one is None) == (true is None) == (other is None), name
        if true is not None and one is not None and other is not None:
            # What is zero but for rounding is compared with the rest.
            limit = 2 * (other.double() - true).norm() + 1e-2 * true.norm() + 1e-4 * largest
            if (one.double() - true).norm() > limit:
                further[name] = (one.double() - true).norm() - limit
    if further:
        kinks = _moved_by_kinks(exact, x.double())
        assert all(distance <= kinks[name] for name, distance in further.items()), further


NEAR = 1e-5
"""Rounding to 32 bits moves what an activation gets by about as much (a few units in the last place of 6)."""


def _moved_by_kinks(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Returns how far a gradient of `net` moves between slopes taken `NEAR` to the right and to the left.

    Only a value that is as near to a kink gets another slope, and each of them gets one. The activations of
    `net` are wrapped for good.
    """
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU | nn.ReLU6 | nn.Hardswish | nn.Hardsigmoid):
                setattr(parent, name, _SlopeBeside(child))
    sides = []
    for shift in (NEAR, -NEAR):
        for module in net.modules():
            if isinstance(module, _SlopeBeside):
                module.shift = shift
        grads = outcome(net, x)[1]
        sides.append({name: grad for name, grad in grads.items() if grad is not None})
    return {name: (sides[0][name] - sides[1][name]).norm() for name in sides[0]}


class _SlopeBeside(nn.Module):
    """The value of an activation with its slope a little to the right, or to the left."""

    def __init__(self, activation: nn.Module):
        super().__init__()
        self.activation, self.shift = activation, 0.0

    def forward(self, x: Tensor) -> Tensor:
        value, beside = self.activation(x.detach().clone()), self.activation(x + self.shift)
        return value + (beside - beside.detach())


def error(mine: Tensor, theirs: Tensor) -> float:
    return ((mine - theirs).norm() / theirs.norm()).item()


def assert_same_outcome(lean: nn.Module, stock: nn.Module, x: Tensor, tolerance: float) -> None:
    mine, my_grads = outcome(lean, x)
    theirs, their_grads = outcome(stock, x)
    assert error(mine, theirs) <= tolerance
    assert_same_gradients(my_grads, their_grads, tolerance)


def assert_same_gradients(
    mine: dict[str, Tensor | None], stock: dict[str, Tensor | None], tolerance: float
) -> None:
    assert mine.keys() == stock.keys()
    scale = max(g.norm() for g in stock.values() if g is not None)
    for name, theirs in stock.items():
        assert (mine[name] is None) == (theirs is None), name
        if theirs is not None:
            # A value that is zero except for rounding, such as the gradient before a norm, is compared
            # relative to the rest.
            limit = tolerance * (theirs.norm() + 1e-3 * scale)
            assert (mine[name] - theirs).norm() <= limit, name


def assert_stand_ins_are_differentiated(net: nn.Module, lean: nn.Module, x: Tensor, exactness: float) -> None:
    """Compares the gradients of parameters that stand in for a call, which are nobody's own."""
    others = {name: torch.randn_like(p).requires_grad_() for name, p in net.named_parameters()}
    grads = []
    for one in (net, lean):
        loss = functional_call(one, others, (x,)).square().sum()
        grads.append(torch.autograd.grad(loss, list(others.values())))
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=exactness)
