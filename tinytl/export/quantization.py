"""An ONNX network in eight bits: weights per channel, activations per tensor, their ranges from images.

onnxruntime's own quantiser writes the file in the standard's operators (`QuantizeLinear`,
`DequantizeLinear`): runtimes that know 8-bit kernels put them in place of three operators each, and others
compute the same in floats. The choices below were measured on trained networks (docs/devices.md).
"""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tinytl.export.metadata import INPUT
from tinytl.export.rounded_weights import Floats, round_weights_

OPERATIONS = ("Conv", "Gemm", "Add", "Clip", "Relu", "GlobalAveragePool", "AveragePool", "Resize")
"""What computes in eight bits. Norms that depend on the picture stay as they are, and so do products."""
MARKERS = ("QuantizeLinear", "DequantizeLinear")
ABOUT_SHAPES = ("Shape", "Reshape", "Concat", "Flatten", "Squeeze", "Unsqueeze", "Transpose")
"""These compute nothing."""


def quantized(model: bytes, batches: Sequence[Floats]) -> bytes:
    """Returns an ONNX network in eight bits; what it says of itself stays.

    Args:
        model: the network as ONNX, with `images` as its input.
        batches: images `(N, 3, R, R)` in [0, 1], from which the ranges of all activations come: their least
            and largest values. Mean outputs of layers are kept on them.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    graph = onnx.load_from_string(model)
    said = list(graph.metadata_props)
    round_weights_(graph, batches)
    add_pre_process_metadata(graph)  # its preparation, for graphs with norms to fold, is not needed
    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(graph, whole)
        quantize_static(
            whole,
            small,
            _Reader(batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(OPERATIONS),
            nodes_to_exclude=_affine_sums(graph),
        )
        found = onnx.load(small)
    del found.metadata_props[:]
    found.metadata_props.extend(said)
    onnx.checker.check_model(found, full_check=True)
    return found.SerializeToString()


def operations_in_float(model: bytes) -> dict[str, int]:
    """Returns how many operations of each kind compute in floats in a network that `quantized` returned."""
    import onnx

    graph = onnx.load_from_string(model).graph
    from_eight_bits = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    kinds = Counter(
        node.op_type
        for node in graph.node
        if node.op_type not in (*MARKERS, *ABOUT_SHAPES)
        and not (node.op_type in OPERATIONS and node.input[0] in from_eight_bits)
    )
    return dict(kinds.most_common())


class _Reader:
    """Hands out batches as the quantiser asks for them."""

    def __init__(self, batches: Sequence[Floats]) -> None:
        self.left: Iterator[Floats] = iter(batches)

    def get_next(self) -> dict[str, Floats] | None:
        batch = next(self.left, None)
        return None if batch is None else {INPUT: batch}


def _affine_sums(model: Any) -> list[str]:
    """Returns the names of sums with a constant: the last part of a norm that stays in floats."""
    constants = {one.name for one in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "Add" and not constants.isdisjoint(node.input)
    ]
