"""From a traced graph to an ONNX model: constants are computed, names follow edits in place."""

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import getitem
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from tinytl.export.training.graph_writer import GraphWriter, Value
from tinytl.export.training.operations import CONVERTERS
from tinytl.export.training.traced_step import Traced

if TYPE_CHECKING:
    from onnx import ModelProto

aten = torch.ops.aten
_VIEWS = {
    aten.view.default,
    aten.alias.default,
    aten.detach.default,
    aten.as_strided.default,
    aten.transpose.int,
    aten.t.default,
    aten.permute.default,
    aten.unsqueeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.expand.default,
    aten.slice.Tensor,
    aten.select.int,
}
_WRITTEN = {"grad_input", "out"}
"""Arguments that an operation writes, and does not read."""
_READ_FOR_SHAPE = {aten.avg_pool2d_backward.default: 1}
"""Of which argument an operation reads no more than the shape."""
_STORED = torch.int8
"""The type in which weights are stored to be small: a graph makes them float as it runs."""


@dataclass
class _Slots:
    """An empty tensor that later operations fill, part by part."""

    shape: tuple[int, ...]
    parts: dict[tuple[int, ...], Value] = field(default_factory=dict)


@dataclass(frozen=True)
class _Slot:
    of: _Slots
    place: tuple[int, ...]


def translated(traced: Traced, title: str) -> "ModelProto":
    """Returns the ONNX model of a traced graph, with 32-bit floats.

    Raises:
        NotImplementedError: naming an operation that has no translation.
    """
    return _Translation(traced).model(title)


class _Translation:
    def __init__(self, traced: Traced) -> None:
        self.traced, self.graph = traced, traced.graph.graph
        self.writer = GraphWriter()
        self.env: dict[fx.Node, Any] = {}
        self._origin: dict[fx.Node, fx.Node] = {}
        """The node whose memory a node shows."""
        self._edited: dict[fx.Node, int] = {}
        """By origin: how often its memory was edited."""
        self._read: dict[fx.Node, int] = {}
        """By node: how often its memory had been edited when it was made."""

    def model(self, title: str) -> "ModelProto":
        inputs = iter(self.traced.inputs)
        found: list[Any] = []
        for node in self.graph.nodes:
            if node.op == "placeholder":
                self._set(node, self.writer.input(next(inputs), _meta(node)))
            elif node.op == "get_attr":
                self._set(node, _attribute(self.traced.graph, node.target).detach())
            elif node.op == "output":
                found = list(map_arg(node.args[0], self._get))
            else:
                self._call(node)
        return self.writer.model(list(zip(self.traced.outputs, found, strict=True)), title)

    def _call(self, node: fx.Node) -> None:
        target: Any = node.target
        if target is getitem:
            several, index = node.args
            assert isinstance(several, fx.Node)
            self._set(node, self._get(several)[index])
            return
        edited = _written_argument(node)
        read = {name: entry for name, entry in node.kwargs.items() if name not in _WRITTEN}
        args, kwargs = map_arg((list(node.args), read), self._get)
        result = self._result(node, target, args, kwargs)
        if edited is None:
            self._set(node, result, origin=node.args[0] if target in _VIEWS else None)
            return
        self._edit(edited, result)
        self._set(node, result, origin=edited)

    def _result(self, node: fx.Node, target: Any, args: Any, kwargs: Any) -> Any:
        if target in (aten.empty.memory_format, aten.empty_strided.default):
            return _Slots(tuple(args[0]))
        if isinstance(args[0], _Slots) and target is aten.select.int:
            assert args[1] == 0
            return _Slot(args[0], (args[2],))
        if isinstance(args[0], _Slot) and target is aten.select.int:
            assert args[1] == 0
            return _Slot(args[0].of, (*args[0].place, args[2]))
        unread = {_READ_FOR_SHAPE.get(target)} | {
            place for place, one in enumerate(node.args) if one is _written_argument(node)
        }
        args = [
            self._filled(one, may_be_empty=place in unread) if isinstance(one, _Slots) else one
            for place, one in enumerate(args)
        ]
        if target in (aten.empty_like.default, aten.new_empty.default):
            return None  # written before it is read, or the reader below fails
        if target is aten.fill_.Scalar:
            return torch.full(_result_of(node).shape, args[1], dtype=_result_of(node).dtype)
        if torch.Tag.nondeterministic_seeded in getattr(target, "tags", ()):
            raise NotImplementedError(f"{target} draws random numbers, which would be the same in every step")
        if _is_constant((args, kwargs)) and not _makes_float(target, args):
            return _computed(target, args, kwargs)
        convert: Callable[..., Any] | None = CONVERTERS.get(target)
        if convert is None:
            raise NotImplementedError(f"{target} has no translation")
        return convert(self.writer, _result_of(node), *args, **kwargs)

    def _filled(self, slots: _Slots, may_be_empty: bool) -> Value | None:
        """Returns the parts of a tensor that was filled one by one, as one value; None of an empty one."""
        if not slots.parts and may_be_empty:
            return None
        if not slots.parts:
            raise NotImplementedError("memory is read that nothing was written to")
        depth = len(next(iter(slots.parts)))
        rest, n_parts = slots.shape[depth:], len(slots.parts)
        rows = [
            self.writer.add("Reshape", [slots.parts[place], [1, *rest]], (1, *rest))
            for place in sorted(slots.parts)
        ]
        joined = self.writer.add("Concat", rows, (n_parts, *rest), axis=0)
        return self.writer.add("Reshape", [joined, slots.shape], slots.shape)

    def _set(self, node: fx.Node, entry: Any, origin: Any = None) -> None:
        self.env[node] = entry
        self._origin[node] = self._origin[origin] if isinstance(origin, fx.Node) else node
        self._read[node] = self._edited.get(self._origin[node], 0)

    def _get(self, node: fx.Node) -> Any:
        entry = self.env[node]
        if self._read[node] != self._edited.get(self._origin[node], 0) and not isinstance(entry, _Slots):
            raise NotImplementedError(f"{node} is read after its memory was edited through another view")
        return entry

    def _edit(self, node: fx.Node, result: Any) -> None:
        """Notes that `node` was edited in place: it is `result` now, and older views of it are stale."""
        entry = self.env[node]
        if isinstance(entry, _Slot):
            entry.of.parts[entry.place] = result
            return
        origin = self._origin[node]
        self._edited[origin] = self._edited.get(origin, 0) + 1
        self.env[node] = result
        self._read[node] = self._edited[origin]


def _written_argument(node: fx.Node) -> Any:
    """Returns the node that an operation writes to; None if it makes new memory."""
    target: Any = node.target
    name = target._schema.name.partition("::")[2]
    for key in _WRITTEN & node.kwargs.keys():
        return node.kwargs[key]
    if target is torch.ops.tinytl.apply_bits.default:
        return node.args[2]
    return node.args[0] if name.endswith("_") and not name.endswith("__") else None


def _is_constant(arguments: Any) -> bool:
    values: list[Any] = []

    def collect(entry: Any) -> None:
        if isinstance(entry, (list, tuple)):
            for one in entry:
                collect(one)
        elif isinstance(entry, dict):
            collect(list(entry.values()))
        elif isinstance(entry, (Tensor, Value, _Slot)) or entry is None:
            values.append(entry)

    collect(arguments)
    return not any(isinstance(value, (Value, _Slot)) for value in values)


def _makes_float(target: Any, args: Any) -> bool:
    """Whether an operation makes a stored weight float: a graph does so as it runs."""
    return target is aten._to_copy.default and args[0].dtype is _STORED


def _computed(target: Any, args: Any, kwargs: Any) -> Any:
    """Returns what an operation makes of constants, which it does not edit."""
    copied = [one.clone() if isinstance(one, Tensor) else one for one in args]
    return target(*copied, **kwargs)


def _attribute(module: Any, name: Any) -> Tensor:
    for part in str(name).split("."):
        module = getattr(module, part)
    found: Tensor = module
    return found


def _meta(node: fx.Node) -> Any:
    """Returns what has the shape and the type of what a node makes; None if it makes nothing."""
    return node.meta.get("val", node.meta.get("tensor_meta"))


def _result_of(node: fx.Node) -> Value:
    """Returns the shape and type of what a node makes, of the first if it makes several."""
    meta = _meta(node)
    if isinstance(meta, (list, tuple)) and not hasattr(meta, "shape"):
        meta = next(one for one in meta if one is not None)
    if meta is None:
        return Value("", (), torch.float32)
    return Value("", tuple(meta.shape), meta.dtype)
