"""Weights on a grid of eight bits, and biases that take back what that does on average; needs onnx."""

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from tests.support.small_onnx import pictures, small_onnx
from tinytl.export.onnx_network import session_of
from tinytl.export.rounded_weights import round_weights_, rounded_to_grid


def outputs(model: Any, name: str) -> np.ndarray[Any, Any]:
    """What a layer computes of all pictures."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = session_of(shown.SerializeToString())
    return np.concatenate([session.run([name], {"images": batch})[0] for batch in pictures()])


def test_each_filter_has_its_own_grid() -> None:
    weight = np.array([[1.0, -0.5, 0.013], [100.0, 3.0, 0.2], [0.0, 0.0, 0.0]], np.float32)
    steps = np.array([[1 / 127], [100 / 127], [1.0]])
    near = rounded_to_grid(weight)
    assert np.allclose(near / steps, np.round(weight / steps), atol=1e-4)
    assert np.abs(near - weight).max() <= steps.max() / 2
    assert np.array_equal(rounded_to_grid(near), near)


def test_the_mean_output_of_the_first_layers_stays() -> None:
    """Later ones compute from other numbers: those before them are rounded, too."""
    exact, rounded = (onnx.load_from_string(small_onnx()) for _ in range(2))
    round_weights_(rounded, pictures())
    moved = outputs(rounded, "first") - outputs(exact, "first")
    assert np.abs(moved).max() > 1e-4, "nothing was rounded"
    assert np.abs(moved.mean((0, 2, 3))).max() < 1e-6
    plain = onnx.load_from_string(small_onnx())
    for one in plain.graph.initializer:
        if one.name.endswith("weight"):
            one.CopyFrom(numpy_helper.from_array(rounded_to_grid(numpy_helper.to_array(one)), one.name))
    without = outputs(plain, "first") - outputs(exact, "first")
    assert np.abs(without.mean((0, 2, 3))).max() > 1e-5, "the bias had nothing to take back"


def test_layers_that_shared_a_bias_get_their_own_and_one_without_gets_one() -> None:
    model = onnx.load_from_string(small_onnx())
    round_weights_(model, pictures())
    onnx.checker.check_model(model, full_check=True)
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    names = [name for node in layers for name in node.input[1:]]
    assert len(names) == len(set(names)) == 2 * len(layers)
    used = {name for node in model.graph.node for name in node.input}
    assert {one.name for one in model.graph.initializer} <= used
