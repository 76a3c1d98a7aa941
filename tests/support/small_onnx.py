"""ONNX networks of a few layers, written by hand: exporting one of PyTorch takes seconds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, CLASSES = 32, 3


def small_onnx(seed: int = 0) -> bytes:
    """Normalises, then a block with a residual sum and a norm that stays in floats, pooled and classified."""
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray[Any, Any]:
        return rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    constants = {
        "mean": np.full((1, 3, 1, 1), 0.4, np.float32),
        "first.weight": weights(8, 3, 3, 3),
        "depthwise.weight": weights(8, 1, 3, 3) + 0.3,
        "last.weight": weights(8, 8, 1, 1),
        "zeros": np.zeros(8, np.float32),
        "head.weight": 3 * weights(CLASSES, 8),
        "head.bias": weights(CLASSES, 1)[:, 0],
        "low": np.array(0, np.float32),
        "high": np.array(6, np.float32),
        "ones": np.ones(8, np.float32),
        "shift": np.full((8, 1, 1), 0.1, np.float32),
        "flat": np.array([0, -1]),
    }
    nodes = [
        ("Sub", ["images", "mean"], "normalised", {}),
        ("Conv", ["normalised", "first.weight", "zeros"], "first", {"pads": [1] * 4, "strides": [2, 2]}),
        ("Clip", ["first", "low", "high"], "start", {}),
        ("Conv", ["start", "depthwise.weight", "zeros"], "depthwise", {"group": 8, "pads": [1] * 4}),
        ("InstanceNormalization", ["depthwise", "ones", "zeros"], "norm", {}),
        ("Add", ["norm", "shift"], "shifted", {}),
        ("Conv", ["shifted", "last.weight"], "branch", {}),
        ("Add", ["branch", "start"], "sum", {}),
        ("Relu", ["sum"], "active", {}),
        ("GlobalAveragePool", ["active"], "pooled", {}),
        ("Reshape", ["pooled", "flat"], "features", {}),
        ("Gemm", ["features", "head.weight", "head.bias"], "logits", {"transB": 1}),
    ]
    return as_bytes(nodes, constants)


def as_bytes(
    nodes: Sequence[tuple[str, Sequence[str], str, Mapping[str, Any]]],
    constants: Mapping[str, np.ndarray[Any, Any]],
) -> bytes:
    """Returns a graph from `images` to `logits` as a file's content."""
    graph = helper.make_graph(
        [helper.make_node(kind, list(given), [made], made, **rest) for kind, given, made, rest in nodes],
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    model.metadata_props.add(key="classes", value='["red", "green", "blue"]')
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def pictures(n: int = 32, seed: int = 1) -> list[np.ndarray[Any, Any]]:
    """Batches of noise, some darker than others, in [0, 1]."""
    rng = np.random.default_rng(seed)
    images = rng.random((n, 3, SIDE, SIDE)) * rng.random((n, 3, 1, 1))
    return np.split(images.astype(np.float32), range(8, n, 8))
