"""The ways to take a training step that `net_peers` compares, and the networks that it takes them of."""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from benchmarks.memory.nets import N_CLASSES
from benchmarks.memory.selective_saving import save_selectively_
from tinytl import fit_budget
from tinytl.memory.any_step import adam
from tinytl.memory_efficient import Execution, make_memory_efficient_

Row = dict[str, Any]
BATCH = 8
NETS = (
    "torchvision/mobilenet_v2",
    "torchvision/mobilenet_v3_large",
    "torchvision/efficientnet_b0",
    "torchvision/shufflenet_v2_x1_0",
    "torchvision/regnet_y_400mf",
    "torchvision/squeezenet1_1",
    "torchvision/resnet18",
    "timm/efficientnet_lite0",
    "timm/mobilenetv3_small_100",
    "timm/mobilenetv4_conv_small",
    "timm/ghostnet_100",
    "timm/convnext_atto",
)
FREEZE = ("biases and head", "last quarter", "everything")
"""What trains; `last quarter`: of the blocks, and all behind them. Batch norm's statistics are frozen."""
BUDGETS = (0.9, 0.7, 0.5, 0.3, 0.1)
BY_INDUCTOR = ("torchvision/mobilenet_v2", "torchvision/resnet18", "timm/convnext_atto")
"""Networks that torch's default backend compiles, too: a minute each, so with biases and head alone."""
BLOCK = re.compile("Block|Residual|Bottleneck|MBConv|Fire|Separable|ConvBnAct")
"""In the name of a block's class."""


@dataclass
class Step:
    """A training step of one way."""

    net: nn.Module
    called: Callable[[Tensor], Tensor]
    """The net as it is called: compiled, perhaps."""
    micro_batch_size: int = BATCH

    def __post_init__(self) -> None:
        self.optimizer = adam(p for p in self.net.parameters() if p.requires_grad)

    def gradients(self, images: Tensor) -> Tensor:
        """Goes back, and returns the gradients as one vector."""
        self._go_back(images)
        return torch.cat([p.grad.reshape(-1) for p in self.net.parameters() if p.grad is not None])

    def take(self, images: Tensor) -> None:
        """Takes the whole step."""
        self._go_back(images)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _go_back(self, images: Tensor) -> None:
        size = self.micro_batch_size
        for first in range(0, len(images), size):
            loss_of(self.called(images[first : first + size]), first).backward()


def loss_of(output: Tensor, first: int = 0) -> Tensor:
    """Returns a micro-batch's share of the loss; `first`: of its samples in the batch."""
    labels = torch.arange(first, first + len(output)) % N_CLASSES
    return F.cross_entropy(output, labels, reduction="sum") / BATCH


def blocks_of(net: nn.Module) -> list[nn.Module]:
    """Returns the outermost modules whose class is named like a block."""
    found = []
    for child in net.children():
        is_block = BLOCK.search(type(child).__name__) and not isinstance(child, nn.Sequential)
        found += [child] if is_block else blocks_of(child)
    return found


def freeze_(net: nn.Module, how: str) -> nn.Module:
    """Sets what trains of a network of `build`, whose biases and head train."""
    if how == "everything":
        net.requires_grad_(True)
    elif how == "last quarter":
        blocks = blocks_of(net)
        first = next(blocks[-max(1, len(blocks) // 4)].parameters())
        trains = False
        for parameter in net.parameters():
            trains = trains or parameter is first
            parameter.requires_grad_(trains)
    return net


def checkpointed_(net: nn.Module) -> nn.Module:
    """Runs each block under torch's own checkpoint."""
    for block in blocks_of(net):
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
    return net


def lean_(net: nn.Module, recompute: str) -> nn.Module:
    """Makes it lean."""
    make_memory_efficient_(net, Execution(recompute=recompute))  # type: ignore[arg-type]
    return net


EAGER_WAYS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "stock": lambda net: net,
    "selective saving": save_selectively_,
    "checkpoint": checkpointed_,
    "lean": functools.partial(lean_, recompute="none"),
    "lean, block": functools.partial(lean_, recompute="block"),
}


def ways_of(name: str, freeze: str) -> list[str]:
    """Returns what is measured, stock first; a budget stands behind its way."""
    compilers = ["compile", *(f"compile {budget}" for budget in BUDGETS)]
    fits = [f"fit {budget}" for budget in BUDGETS]
    by_inductor = name in BY_INDUCTOR and freeze == FREEZE[0]
    more = ["inductor", "inductor 0.5", "inductor 0.1"] if by_inductor else []
    return [*EAGER_WAYS, *fits, *compilers, *more]


def budget_mib(stock: Row, budget: float) -> float:
    """Returns what a step may need if the activations that stock keeps have to fit `budget` of them."""
    return stock["peak_mib"] - (1 - budget) * stock["kept_mib"]


def prepared(way: str, net: nn.Module, images: Tensor, stock: Row | None) -> tuple[Step, Row]:
    """Returns a step, and what is known of it before it runs.

    Raises:
        ConfigError: if `fit_budget` refuses.
    """
    kind, _, budget = way.partition(" ") if way not in EAGER_WAYS else (way, "", "")
    if kind in EAGER_WAYS:
        return Step(net, EAGER_WAYS[kind](net)), {}
    if kind == "fit":
        assert stock is not None
        fit = fit_budget(net, images, budget_mib(stock, float(budget)), loss=loss_of)
        known = {"recompute": fit.execution.recompute, "micro_batch_size": fit.micro_batch_size}
        known["predicted_mib"] = round(fit.prediction.peak_mib, 3)
        return Step(net, net, fit.micro_batch_size), known
    backend = "inductor" if kind == "inductor" else "aot_eager"
    called = torch.compile(net, backend=backend, fullgraph=True)
    return Step(net, called), {"backend": backend}


def torchs_budget(way: str) -> float:
    """Returns the budget that torch is told."""
    kind, _, budget = way.partition(" ")
    return float(budget) if kind in ("compile", "inductor") and budget else 1.0
