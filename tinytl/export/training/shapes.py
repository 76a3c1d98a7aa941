"""Views, slices, joins, padding and copies of a traced step, in ONNX."""

from collections.abc import Sequence
from typing import Any

import torch

from tinytl.export.training.converters import converts
from tinytl.export.training.graph_writer import Entry, GraphWriter, Value, onnx_type

aten = torch.ops.aten


@converts(
    aten.view.default,
    aten._unsafe_view.default,
    aten.reshape.default,
    aten.unsqueeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
)
def _view(graph: GraphWriter, like: Value, x: Entry, *_: Any) -> Value:
    return graph.add("Reshape", [x, like.shape], like.shape, like.dtype)


@converts(aten.expand.default)
def _expand(graph: GraphWriter, like: Value, x: Entry, *_: Any, **__: Any) -> Value:
    return graph.add("Expand", [x, like.shape], like.shape, like.dtype)


@converts(aten.transpose.int, aten.t.default)
def _transpose(graph: GraphWriter, like: Value, x: Entry, dim0: int = 0, dim1: int = 1) -> Value:
    order = list(range(len(x.shape)))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return graph.add("Transpose", [x], like.shape, like.dtype, perm=order)


@converts(aten.permute.default)
def _permute(graph: GraphWriter, like: Value, x: Entry, order: Sequence[int]) -> Value:
    return graph.add("Transpose", [x], like.shape, like.dtype, perm=list(order))


@converts(aten.slice.Tensor)
def _slice(
    graph: GraphWriter, like: Value, x: Entry, dim: int = 0, start: int = 0, end: int = 2**31, step: int = 1
) -> Value:
    end = min(end, x.shape[dim])
    return graph.add("Slice", [x, [start or 0], [end], [dim], [step]], like.shape, like.dtype)


@converts(aten.split.Tensor)
def _split(graph: GraphWriter, like: Value, x: Entry, size: int, dim: int = 0) -> list[Value]:
    parts = []
    for start in range(0, x.shape[dim], size):
        end = min(start + size, x.shape[dim])
        shape = [end - start if axis == dim % len(x.shape) else n for axis, n in enumerate(x.shape)]
        parts.append(graph.add("Slice", [x, [start], [end], [dim]], shape, like.dtype))
    return parts


@converts(aten.cat.default)
def _cat(graph: GraphWriter, like: Value, parts: Sequence[Entry], dim: int = 0) -> Value:
    return graph.add("Concat", parts, like.shape, like.dtype, axis=dim)


@converts(aten.index_select.default)
def _index_select(graph: GraphWriter, like: Value, x: Entry, dim: int, index: Entry) -> Value:
    if isinstance(x, Value) and x.rows:
        assert dim == 1  # channels
        shape = (x.map_shape[0], index.shape[0], *x.map_shape[2:])
        picked = graph.add("Gather", [x, index], shape, like.dtype, axis=1)
        return Value(picked.name, like.shape, like.dtype, rows=True, map_shape=shape)
    return graph.add("Gather", [x, index], like.shape, like.dtype, axis=dim)


@converts(aten.as_strided.default, aten.as_strided_.default)
def _as_strided(graph: GraphWriter, like: Value, x: Value, size: Sequence[int], *_: Any) -> Value:
    """A channels_last map as a matrix of pixels by channels, and back."""
    if x.rows:
        assert tuple(size) == x.map_shape
        return Value(x.name, x.map_shape, x.dtype)
    if tuple(size) == x.shape:
        return x
    n, channels, height, width = x.shape
    assert tuple(size) == (n * height * width, channels), (x.shape, size)
    return Value(x.name, tuple(size), x.dtype, rows=True, map_shape=x.shape)


@converts(aten.constant_pad_nd.default)
def _pad(graph: GraphWriter, like: Value, x: Entry, pads: Sequence[int], value: float = 0.0) -> Value:
    """`pads`: before and after, the last axis first."""
    if not any(pads):
        assert isinstance(x, Value)
        return x
    if min(pads) < 0:
        raise NotImplementedError("padding that cuts")
    pairs = [(0, 0)] * (len(x.shape) - len(pads) // 2)
    pairs += [(pads[i], pads[i + 1]) for i in range(len(pads) - 2, -1, -2)]
    amounts = [before for before, _ in pairs] + [after for _, after in pairs]
    return graph.add("Pad", [x, amounts, float(value)], like.shape, like.dtype)


@converts(
    aten.clone.default,
    aten.alias.default,
    aten.detach.default,
    aten.contiguous.default,
    aten.lift_fresh.default,
)
def _same(graph: GraphWriter, like: Value, x: Entry, *_: Any, **__: Any) -> Entry:
    return x


@converts(aten.copy_.default)
def _copy(graph: GraphWriter, like: Value, _: Any, source: Entry, non_blocking: bool = False) -> Entry:
    """Returns what the whole tensor is afterwards."""
    if tuple(source.shape) == like.shape:
        return source
    return graph.add("Expand", [source, like.shape], like.shape, source.dtype)


@converts(aten._to_copy.default)
def _to_copy(graph: GraphWriter, like: Value, x: Entry, **_: Any) -> Entry:
    floats = (torch.float32, torch.float64)
    if x.dtype is like.dtype or (x.dtype in floats and like.dtype in floats):
        return x
    return graph.add("Cast", [x], like.shape, like.dtype, to=onnx_type(like.dtype))
