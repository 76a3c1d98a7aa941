"""An ONNX network's weights rounded to eight bits, its biases corrected for what rounding does on average.

Rounding moves the mean output of a filter if its inputs have a mean: those of a depthwise convolution after
ReLU6 do, and nine weights do not average their errors out. The bias takes that back.
Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV 2019.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinytl.export.metadata import INPUT

LARGEST = 127
"""Of a weight in eight bits, with a sign; -128 is not used, so that the grid is symmetric."""
Floats = NDArray[np.float32]


class _Layer(NamedTuple):
    """A convolution or a linear layer, and its weights `(out, ...)`."""

    node: Any
    weight: Floats


def round_weights_(model: Any, batches: Iterable[Floats]) -> None:
    """Rounds the weights of an `onnx.ModelProto`, and corrects biases; a layer without bias gets one.

    Args:
        model: with `images` as its input. Each filter, or output of a linear layer, has a grid of its own:
            multiples of its largest weight / 127.
        batches: images `(N, 3, R, R)` in [0, 1], over which mean outputs are kept.
    """
    from onnx import numpy_helper

    constants = {one.name: one for one in model.graph.initializer}
    layers = [
        _Layer(node, numpy_helper.to_array(constants[node.input[1]]))
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm")
    ]
    rounded = [rounded_to_grid(layer.weight) for layer in layers]
    lost = [layer.weight - near for layer, near in zip(layers, rounded, strict=True)]
    means = _mean_outputs(model, layers, lost, batches)
    for layer, near, mean in zip(layers, rounded, means, strict=True):
        node = layer.node
        bias = numpy_helper.to_array(constants[node.input[2]]) if len(node.input) > 2 else np.zeros_like(mean)
        # Constants of their own: equal ones of several layers may be one in the file.
        del node.input[1:]
        for kind, values in (("weight", near), ("bias", bias + mean)):
            name = f"{node.output[0]} {kind}"
            model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
            node.input.append(name)
    used = {name for node in model.graph.node for name in node.input}
    kept = [one for one in model.graph.initializer if one.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def rounded_to_grid(weight: Floats) -> Floats:
    """Returns weights `(out, ...)` rounded to multiples of each output's largest one / 127."""
    largest = np.abs(weight).max(tuple(range(1, weight.ndim)), keepdims=True)
    step = np.where(largest > 0, largest, 1) / LARGEST
    near: Floats = (np.round(weight / step) * step).astype(np.float32)
    return near


def _mean_outputs(
    model: Any, layers: Sequence[_Layer], weights: Sequence[Floats], batches: Iterable[Floats]
) -> list[Floats]:
    """Returns the mean output `(out,)` of each layer, had it these weights and no bias, on its own inputs."""
    import onnxruntime
    from onnx import helper, numpy_helper

    probe = type(model)()
    probe.CopyFrom(model)
    axes = {"Conv": [0, 2, 3], "Gemm": [0]}
    for kind, over in axes.items():
        probe.graph.initializer.append(numpy_helper.from_array(np.array(over), f"axes of {kind}"))
    names = []
    for number, (layer, weight) in enumerate(zip(layers, weights, strict=True)):
        name, like = f"mean {number}", type(layer.node)()
        like.CopyFrom(layer.node)
        del like.input[1:], like.output[:]
        like.name = f"weights {number}"
        like.input.append(like.name)
        like.output.append(f"output {number}")
        probe.graph.initializer.append(numpy_helper.from_array(weight, like.name))
        mean = helper.make_node(
            "ReduceMean", [like.output[0], f"axes of {like.op_type}"], [name], name, keepdims=0
        )
        probe.graph.node.extend([like, mean])
        probe.graph.output.append(helper.make_empty_tensor_value_info(name))
        names.append(name)
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    n_images = 0
    sums: list[Floats] = [np.zeros(len(weight), np.float32) for weight in weights]
    for batch in batches:
        found = session.run(names, {INPUT: batch})
        for total, mean in zip(sums, found, strict=True):
            total += len(batch) * mean
        n_images += len(batch)
    for total in sums:
        total /= n_images
    return sums
