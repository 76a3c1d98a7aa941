"""The device's program with an exported graph trains as tinytl does, from the same state and batches."""

import importlib.util
import json
import statistics
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.cases import small
from tests.support.sampled import sampled
from tinytl.build import build_model
from tinytl.config.flat import flat_from_config
from tinytl.config.plan import lean_plan
from tinytl.config.train_config import TrainConfig
from tinytl.export.training.folder import PROGRAM_FILE, export_training
from tinytl.runs.checkpoint_file import save_checkpoint
from tinytl.training.step import InputNormalizer, build_optimizer, training_step

STEPS, CPU = 20, torch.device("cpu")
CASES = [
    {"method": "TinyTL-B"},
    {"method": "Sparse", "optimizer": "adamw", "weight_decay": 0.01, "channel_ratio": 0.5},
    {"method": "TinyTL-L+B", "norm": "group_norm", "optimizer": "sgd", "base_lr": 0.003},
    {"method": "TinyTL-L+B", "optimizer": "sgd", "base_lr": 0.05, "backbone": "efficientnet_lite0"},
]


def program_of(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("exported_program", folder / PROGRAM_FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def batches(config: TrainConfig) -> list[tuple[Tensor, Tensor]]:
    """Each class has a colour of its own, so that there is something to learn."""
    generator = torch.Generator().manual_seed(2)
    found = []
    for _ in range(STEPS):
        labels = torch.randint(0, 3, (config.batch_size,), generator=generator)
        shape = (config.batch_size, 3, config.resolution, config.resolution)
        images = torch.randint(0, 128, shape, generator=generator, dtype=torch.uint8)
        images[torch.arange(len(labels)), labels] += 100
        found.append((images, labels))
    return found


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Of all that trains, relative to its norm."""
    difference = sum(float((one[name] - other[name]).square().sum()) for name in one)
    return float((difference / sum(float(tensor.square().sum()) for tensor in other.values())) ** 0.5)


@pytest.mark.parametrize("changes", sampled(CASES, 3), ids=str)
def test_twenty_steps_have_the_gradients_and_updates_of_tinytl(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    """Both take the device's gradients: rounding puts an activation beyond its kink now and then, and Adam,
    which divides by the size of a gradient, moves what has hardly any as far as all else.
    """
    fields = {"norm": "frozen_bn", "resolution": 64, "batch_size": 4, "dropout": 0.0, "num_classes": 3}
    config = lean_plan(small(**{**fields, "base_lr": 1e-3, "micro_batch_size": 2} | changes))
    torch.manual_seed(0)
    net = build_model(config).net
    began = {name: p.detach().double() for name, p in net.named_parameters() if p.requires_grad}
    saved = {
        "net": net.state_dict(), "config": flat_from_config(config), "classes": ["a", "b", "c"], "epoch": 0
    }  # fmt: skip
    (tmp_path / "run").mkdir()
    inputs = {"input_mean": (0.5, 0.5, 0.5), "input_std": (0.25, 0.25, 0.25)}
    save_checkpoint(saved | inputs, tmp_path / "run" / "last.pt")
    export_training(tmp_path / "run", tmp_path / "out", micro_batch_size=2)
    config = TrainConfig(**vars(config) | inputs)

    program = program_of(tmp_path / "out")
    device = program.Classifier(tmp_path / "out", threads=1)
    graph = device.session("step.onnx")
    optimizer, normalize = build_optimizer(net, config), InputNormalizer(config, CPU)
    off: list[float] = []

    def compare_and_replace(*_: Any) -> None:
        made = {name: torch.from_numpy(array) for name, array in gradients.items()}
        own = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
        off.append(distance(own, made))
        for name, grad in own.items():
            grad.copy_(made[name])

    optimizer.register_step_pre_hook(compare_and_replace)
    net.train()
    for images, labels in batches(config):
        feeds = [
            {
                "images": images[i : i + 2].numpy(),
                "labels": labels[i : i + 2].numpy(),
                "weights": np.ones(2, np.float32),
            }
            for i in (0, 2)
        ]
        _, _, gradients = device.gradients(graph, iter(feeds))
        for gradient in gradients.values():
            gradient /= config.batch_size
        training_step(
            net,
            optimizer,
            normalize,
            images,
            labels,
            micro_batch_size=config.samples_in_memory,
            label_smoothing=config.label_smoothing,
        )
        program.update_(device.state, gradients, device.manifest, 1.0)
    found = {name: torch.from_numpy(array).double() for name, array in device.parameters.items()}
    tinytls = {name: p.detach().double() for name, p in net.named_parameters() if p.requires_grad}
    assert min(off) < 1e-5 and statistics.median(off) < 1e-3 and max(off) < 0.05
    assert distance(found, tinytls) < 1e-5 < distance(began, tinytls) / 100
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["dropout"] == 0.0
