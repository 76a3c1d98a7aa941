"""Writes an ONNX graph node by node. Imports onnx when used."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

OPSET = 18
"""The oldest with reductions whose axes are inputs and with all that is written here."""
IR_VERSION = 9


@dataclass(frozen=True)
class Value:
    """A tensor that the graph computes or is given."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    rows: bool = False
    """Whether `shape` `(N * H * W, C)` is how torch sees it, and the graph has the map `(N, C, H, W)`."""
    map_shape: tuple[int, ...] = ()
    """Then: the shape of that map."""

    source: "Value | None" = None
    """What it is a multiple of, if it is one by constants `factor` `(C, 1, 1)`."""
    factor: Tensor | None = None
    with_norm: "Callable[[Tensor, Entry], Value] | None" = None
    """Of a convolution with a constant weight and without bias: makes it with its output's channels
    multiplied by constants `(C,)`, and a bias."""


Entry = Value | Tensor
"""What a node of the traced graph is: a value of the ONNX graph, or a constant."""


class GraphWriter:
    """An ONNX graph as it grows. 64-bit floats become 32-bit."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self._inputs: list[ValueInfoProto] = []
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._count = 0

    def input(self, name: str, like: Tensor) -> Value:
        """Adds an input of the shape and type of `like`."""
        from onnx import helper

        self._inputs.append(helper.make_tensor_value_info(name, onnx_type(like.dtype), list(like.shape)))
        return Value(name, tuple(like.shape), like.dtype)

    def name(self, entry: Entry | Sequence[int] | float) -> str:
        """Returns the name of a value, or of a constant, which becomes an initializer."""
        if isinstance(entry, Value):
            return entry.name
        if isinstance(entry, Tensor):
            return self._constant(entry)
        if isinstance(entry, float):
            return self._constant(torch.tensor(entry))
        return self._constant(torch.tensor(list(entry), dtype=torch.int64))

    def add(
        self,
        operator: str,
        inputs: Sequence[Entry | Sequence[int] | float | None],
        shape: Sequence[int],
        dtype: torch.dtype = torch.float32,
        **attributes: Any,
    ) -> Value:
        """Adds a node with one output, of this shape; an input None is left out."""
        return self.add_several(operator, inputs, shape, (dtype,), **attributes)[0]

    def add_several(
        self,
        operator: str,
        inputs: Sequence[Entry | Sequence[int] | float | None],
        shape: Sequence[int],
        dtypes: Sequence[torch.dtype],
        **attributes: Any,
    ) -> list[Value]:
        """Adds a node with an output of each type, all of this shape; an input None is left out."""
        from onnx import helper

        made = [Value(f"v{self._count + i}", tuple(shape), dtype) for i, dtype in enumerate(dtypes, 1)]
        self._count += len(made)
        names = ["" if entry is None else self.name(entry) for entry in inputs]
        self.nodes.append(helper.make_node(operator, names, [one.name for one in made], **attributes))
        return made

    def model(self, outputs: Sequence[tuple[str, Entry]], title: str) -> "ModelProto":
        """Returns the whole model, checked; `outputs`: names and what they are."""
        from onnx import checker, helper

        infos = []
        for name, entry in outputs:
            self.nodes.append(helper.make_node("Identity", [self.name(entry)], [name]))
            infos.append(helper.make_tensor_value_info(name, onnx_type(entry.dtype), list(entry.shape)))
        nodes, constants = self._used({name for name, _ in outputs})
        graph = helper.make_graph(nodes, title, self._inputs, infos, constants)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="tinytl")
        checker.check_model(model, full_check=True)
        return model

    def _used(self, wanted: set[str]) -> "tuple[list[NodeProto], list[TensorProto]]":
        """Returns the nodes and initializers that outputs depend on."""
        nodes = []
        for node in reversed(self.nodes):
            if wanted & set(node.output):
                nodes.append(node)
                wanted |= set(node.input)
        return nodes[::-1], [one for one in self.initializers if one.name in wanted]

    def _constant(self, tensor: Tensor) -> str:
        from onnx import numpy_helper

        tensor = tensor.detach().contiguous()
        array = (tensor.float() if tensor.dtype is torch.float64 else tensor).numpy()
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = f"c{len(self._known)}"
            self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), self._known[key]))
        return self._known[key]


def onnx_type(dtype: torch.dtype) -> int:
    """Returns ONNX's number of a type; 64-bit floats become 32-bit."""
    from onnx import TensorProto

    return int(
        {
            torch.float32: TensorProto.FLOAT,
            torch.float64: TensorProto.FLOAT,
            torch.int64: TensorProto.INT64,
            torch.uint8: TensorProto.UINT8,
            torch.int8: TensorProto.INT8,
            torch.bool: TensorProto.BOOL,
        }[dtype]
    )
