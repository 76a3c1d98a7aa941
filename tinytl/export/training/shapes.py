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


@converts(aten.slice_backward.default)
def _slice_backward(
    graph: GraphWriter,
    like: Value,
    grad: Entry,
    sizes: Sequence[int],
    dim: int,
    start: int,
    end: int,
    step: int,
) -> Value:
    """Zeros around a gradient."""
    if step != 1:
        raise NotImplementedError("the gradient of a slice with steps")
    start = start + sizes[dim] if start < 0 else start
    before = [start if axis == dim % len(sizes) else 0 for axis in range(len(sizes))]
    after = [size - part - first for size, part, first in zip(sizes, grad.shape, before, strict=True)]
    return graph.add("Pad", [grad, [*before, *after]], like.shape)


@converts(aten.split_with_sizes.default)
def _split_with_sizes(
    graph: GraphWriter, like: Value, x: Entry, sizes: Sequence[int], dim: int = 0
) -> list[Value]:
    parts, start = [], 0
    for size in sizes:
        shape = [size if axis == dim % len(x.shape) else n for axis, n in enumerate(x.shape)]
        parts.append(graph.add("Slice", [x, [start], [start + size], [dim]], shape, like.dtype))
        start += size
    return parts


@converts(aten.select.int)
def _select(graph: GraphWriter, like: Value, x: Entry, dim: int, index: int) -> Value:
    start = index % x.shape[dim]
    shape = [1 if axis == dim % len(x.shape) else n for axis, n in enumerate(x.shape)]
    return _view(graph, like, graph.add("Slice", [x, [start], [start + 1], [dim]], shape, like.dtype))


@converts(aten.split.Tensor)
def _split(graph: GraphWriter, like: Value, x: Entry, size: int, dim: int = 0) -> list[Value]:
    length = x.shape[dim]
    sizes = [min(size, length - start) for start in range(0, length, size)]
    return _split_with_sizes(graph, like, x, sizes, dim)


@converts(aten.unbind.int)
def _unbind(graph: GraphWriter, like: Value, x: Entry, dim: int = 0) -> list[Value]:
    parts = _split_with_sizes(graph, like, x, [1] * x.shape[dim], dim)
    return [_view(graph, like, part) for part in parts]


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
    pairs = [(0, 0)] * (len(x.shape) - len(pads) // 2)
    pairs += [(pads[i], pads[i + 1]) for i in range(len(pads) - 2, -1, -2)]
    amounts = [before for before, _ in pairs] + [after for _, after in pairs]  # if negative, they cut
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
