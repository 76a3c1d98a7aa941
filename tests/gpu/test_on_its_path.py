"""What holds on a GPU, and on its path with a CPU's kernels."""

import ast
import dataclasses
import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.emulated_path import followed_step
from benchmarks.gpu.graph import STEPS, trained_apart
from tests.support.cases import small
from tests.support.sampled import sampled
from tests.support.taped_graphs import TapedGraphs
from tinytl.build import build_model
from tinytl.config.plan import lean_plan
from tinytl.config.train_config import TrainConfig
from tinytl.memory.measured_step import measure_memory
from tinytl.memory.predict import predict_memory
from tinytl.training import captured_step

METHODS = [
    {"method": "TinyTL-L+B", "norm": "frozen_bn"},
    {"method": "TinyTL-B", "norm": "group_norm", "checkpoint": "all"},
    {"method": "FT-Full", "norm": "batch_norm"},
]
NAMED = {"ids": lambda changes: "-".join(map(str, changes.values()))}


def gradients(config: TrainConfig, device: torch.device) -> dict[str, Tensor]:
    torch.manual_seed(0)
    net = build_model(config).net.double().to(device)
    torch.manual_seed(1)
    images = torch.rand(config.batch_size, 3, config.resolution, config.resolution, dtype=torch.float64)
    labels = torch.arange(config.batch_size, device=device) % 3
    F.cross_entropy(net(images.to(device)), labels).backward()
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("changes", sampled(METHODS, 3), **NAMED)
def test_lean_gradients_are_stock_s_in_float64(changes: dict[str, Any], device: torch.device) -> None:
    lean = lean_plan(small(**changes, resolution=64, dropout=0.0, device=device.type))
    stock = dataclasses.replace(lean, engine="stock", checkpoint="none")
    expected, found = gradients(stock, device), gradients(lean, device)
    assert found.keys() == expected.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        assert float((found[name] - gradient).abs().max()) <= 1e-8 * largest, name


@pytest.mark.parametrize("changes", sampled(METHODS, 3), **NAMED)
def test_a_step_needs_the_memory_that_is_predicted(changes: dict[str, Any], device: torch.device) -> None:
    config = lean_plan(small(**changes, resolution=128, batch_size=8, device="cuda"))
    predicted = predict_memory(config).peak_mib
    if device.type == "cuda":  # with what the GPU said of its workspaces and of each operation
        assert predicted == pytest.approx(measure_memory(config), rel=0.02)
    else:
        assert predicted == pytest.approx(followed_step(config).peak_mib, rel=0.01)


RECORDED = [
    {"method": "TinyTL-L+B", "norm": "frozen_bn", "micro_batch_size": 2, "dropout": 0.5},
    {"method": "TinyTL-B", "norm": "group_norm", "precision": "bfloat16"},
    {"method": "FT-Full", "norm": "batch_norm"},
]


@pytest.mark.parametrize("changes", sampled(RECORDED, 3), **NAMED)
def test_a_step_as_a_graph_trains_as_one_that_is_not(
    changes: dict[str, Any], device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs: list[TapedGraphs] = []
    if device.type != "cuda":
        monkeypatch.setattr(captured_step, "new_graphs", lambda: graphs.append(TapedGraphs()) or graphs[-1])
    config = lean_plan(small(**changes, optimizer="sgd", base_lr=2.0**-10, device=device.type))
    off, refusal = trained_apart(config)
    assert refusal is None
    assert off <= (1e-3 if device.type == "cuda" else 0.0)
    if graphs:  # the tape was played
        assert graphs[0].tapes[1].plays == STEPS - 1


def test_what_needs_a_gpu_can_be_imported_and_is_left_out_without_one() -> None:
    file = Path(__file__).with_name("test_on_a_gpu.py")
    imported = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
    for node in imported:
        module = importlib.import_module(str(node.module))
        for alias in node.names:
            assert hasattr(module, alias.name) or importlib.import_module(f"{node.module}.{alias.name}")
    assert len(imported) > 5
