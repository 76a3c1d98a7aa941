"""Steps as CUDA graphs: do they train as steps that are not recorded, and how long do they take?"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tinytl.build import build_model
from tinytl.config.plan import lean_plan
from tinytl.config.train_config import TrainConfig
from tinytl.device import resolve_device
from tinytl.training.captured_step import CapturedStep, Step, planned_step
from tinytl.training.mixed_precision import MixedPrecision
from tinytl.training.step import InputNormalizer, build_optimizer, random_batch

STEPS = 4
"""The first runs as it is, the second is recorded."""
NEEDS_GPU = "a graph needs a GPU"


def recorded_step(config: TrainConfig) -> Callable[[], Any]:
    """Returns a step of a planned `config` on random weights and images, recorded and replayed.

    Raises:
        RuntimeError: saying why it cannot be recorded.
    """
    _, step = _prepared(dataclasses.replace(config, cuda_graph=True))
    batch = random_batch(config, resolve_device(config.device))
    for _ in range(2):
        step(*batch)
    if not isinstance(step, CapturedStep) or step.refusal is not None:
        raise RuntimeError(step.refusal if isinstance(step, CapturedStep) else NEEDS_GPU)

    def run() -> None:
        step(*batch)
        torch.cuda.synchronize()

    return run


def trained_apart(config: TrainConfig) -> tuple[float, str | None]:
    """Trains a planned `config` for some steps with and without graphs; returns the largest difference of a
    parameter's change over the largest change, and why nothing was recorded, if so.
    """
    changes = []
    refusal = None
    for recorded in (True, False):
        net, step = _prepared(dataclasses.replace(config, cuda_graph=recorded))
        before = _trained(net)
        torch.manual_seed(1)
        batches = [random_batch(config, resolve_device(config.device)) for _ in range(STEPS)]
        torch.manual_seed(2)
        for batch in batches:
            step(*batch)
        changes.append([after - was for after, was in zip(_trained(net), before, strict=True)])
        if isinstance(step, CapturedStep):
            refusal = step.refusal
    return _apart(*changes), refusal


def trained_alike(methods: Sequence[tuple[str, str]], device: torch.device) -> dict[str, Any]:
    """Compares training with and without graphs, for each method and norm, with one pass a step and several.

    SGD: Adam divides by small numbers, so that differences of rounding would look like any other.
    """
    if device.type != "cuda":
        return {"why": NEEDS_GPU}
    rows: list[dict[str, Any]] = []
    for (method, norm), micro in itertools.product(methods, (8, 4)):
        config = lean_plan(
            TrainConfig(
                backbone="mobilenet_v2", weights="none", method=method, norm=norm, num_classes=10,
                resolution=64, batch_size=8, micro_batch_size=micro, optimizer="sgd", device=device.type,
            )
        )  # fmt: skip
        off, refusal = trained_apart(config)
        row: dict[str, Any] = {"method": method, "norm": norm, "micro_batch_size": micro, "off": off}
        rows.append(row | ({} if refusal is None else {"refused": refusal}))
    refused = sorted({row["refused"] for row in rows if "refused" in row})
    if refused:
        raise RuntimeError("; ".join(refused))
    return {"most": max(row["off"] for row in rows), "rows": rows}


def _prepared(config: TrainConfig) -> tuple[nn.Module, Step]:
    device = resolve_device(config.device)
    torch.manual_seed(0)
    net = build_model(config).net.to(device)
    normalize, precision = InputNormalizer(config, device), MixedPrecision(config.precision, device)
    return net, planned_step(config, net, build_optimizer(net, config), normalize, precision)


def _trained(net: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in net.parameters() if parameter.requires_grad]


def _apart(some: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    off = max(float((one - other).abs().max()) for one, other in zip(some, others, strict=True))
    return off / max(float(other.abs().max()) for other in others)
