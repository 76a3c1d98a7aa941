"""Functions of tensors as ONNX graphs, to compare with themselves."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from tinytl.export.training.traced_step import Traced
from tinytl.export.training.translation import translated

MAPS = torch.randn(2, 6, 9, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3


def run(model: Any, feed: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
    """Runs a model as a device does: as it is written."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found: list[np.ndarray[Any, Any]] = session.run(None, feed)
    return found


def traced(function: Callable[..., Any], *inputs: Tensor) -> Traced:
    """Traces a function that returns a tuple of tensors."""
    graph = make_fx(function, tracing_mode="real")(*inputs)
    n_outputs = len(next(node for node in graph.graph.nodes if node.op == "output").args[0])
    return Traced(
        graph, tuple(f"in{i}" for i in range(len(inputs))), tuple(f"out{i}" for i in range(n_outputs))
    )


def assert_translates(function: Callable[..., Any], *inputs: Tensor, exactness: float = 1e-5) -> None:
    """Compares a function of 64-bit tensors with its ONNX graph, relative to the largest number."""
    model = translated(traced(function, *inputs), "function")
    feed = {
        f"in{i}": (one.float() if one.dtype is torch.float64 else one).detach().numpy()
        for i, one in enumerate(inputs)
    }
    for found, expected in zip(run(model, feed), function(*inputs), strict=True):
        difference = np.abs(found - expected.detach().numpy()).max()
        assert found.shape == tuple(expected.shape)
        assert difference <= exactness * max(1.0, float(expected.abs().max()))
