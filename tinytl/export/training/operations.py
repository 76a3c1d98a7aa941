"""How each of torch's operations in a traced step is written in ONNX's.

All maps are `(N, C, H, W)`. An operation of torch that edits its input is written as one that does not; the
reader of the graph (`translation`) sees to names.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from tinytl.export.training.convolutions import convolution, convolution_backward
from tinytl.export.training.gelu import gelu, gelu_backward
from tinytl.export.training.graph_writer import Entry, GraphWriter, Value, onnx_type
from tinytl.export.training.group_norms import group_norm, group_norm_backward
from tinytl.export.training.layer_norms import layer_norm, layer_norm_backward
from tinytl.export.training.max_pooling import max_pool, max_pool_backward
from tinytl.memory_efficient.ops import bit_mask  # noqa: F401  # registers the operations of `tinytl`

aten, own = torch.ops.aten, torch.ops.tinytl
Converter = Callable[..., Any]
"""Called with the graph, the shape and the type of the result (`like`), and the operation's own arguments."""
CONVERTERS: dict[Any, Converter] = {
    aten.convolution.default: lambda graph, _, *args: convolution(graph, *args),
    aten.convolution_backward.default: lambda graph, _, *args: convolution_backward(graph, *args),
    aten.gelu.default: lambda graph, _, *args, **how: gelu(graph, *args, **how),
    aten.gelu_backward.default: lambda graph, _, *args, **how: gelu_backward(graph, *args, **how),
    aten.max_pool2d_with_indices.default: max_pool,
    aten.max_pool2d_with_indices_backward.default: lambda graph, like, grad, *args: max_pool_backward(
        graph, like, grad, args[-1]
    ),
    aten.native_group_norm.default: lambda graph, _, *args: group_norm(graph, *args),
    aten.native_group_norm_backward.default: lambda graph, _, *args: group_norm_backward(graph, *args),
    aten.native_layer_norm.default: lambda graph, _, *args: layer_norm(graph, *args),
    aten.native_layer_norm_backward.default: lambda graph, _, *args: layer_norm_backward(graph, *args),
}


def converts(*operations: Any) -> Callable[[Converter], Converter]:
    """Registers a function for some operations."""

    def register(function: Converter) -> Converter:
        CONVERTERS.update(dict.fromkeys(operations, function))
        return function

    return register


def _elementwise(operator: str, *operations: Any) -> None:
    def convert(graph: GraphWriter, like: Value, *inputs: Any, **_: Any) -> Value:
        return graph.add(operator, [_number(one, inputs) for one in inputs], like.shape, like.dtype)

    converts(*operations)(convert)


def _number(entry: Any, beside: Sequence[Any]) -> Entry:
    """Returns an entry; a number as a constant of the type of what stands beside it."""
    if isinstance(entry, (int, float)):
        like = next(one for one in beside if not isinstance(one, (int, float)))
        return torch.tensor(entry, dtype=like.dtype)
    return entry


@converts(aten.mul.Tensor, aten.mul_.Tensor, aten.mul.Scalar)
def _mul(graph: GraphWriter, like: Value, x: Any, y: Any) -> Value:
    product = graph.add("Mul", [_number(x, (y,)), _number(y, (x,))], like.shape, like.dtype)
    if isinstance(x, Value) and isinstance(y, Tensor) and tuple(y.shape) == (*like.shape[1:2], 1, 1):
        return replace(product, source=x, factor=y)
    return product


_elementwise("Div", aten.div.Tensor, aten.div_.Tensor, aten.div.Scalar)
_elementwise("Neg", aten.neg.default)
_elementwise("Exp", aten.exp.default)
_elementwise("Relu", aten.relu.default, aten.relu_.default)
_elementwise("Tanh", aten.tanh.default, aten.tanh_.default)
_elementwise("Sigmoid", aten.sigmoid.default, aten.sigmoid_.default)
_elementwise("Equal", aten.eq.Tensor, aten.eq.Scalar)
_elementwise("Greater", aten.gt.Scalar, aten.gt.Tensor)
_elementwise("And", aten.bitwise_and.Tensor)
_elementwise("HardSwish", aten.hardswish.default, aten.hardswish_.default)


def _adds(operator: str, *operations: Any) -> None:
    def convert(graph: GraphWriter, like: Value, x: Any, y: Any, alpha: float = 1) -> Value:
        x, y = _number(x, (y,)), _number(y, (x,))
        if alpha != 1:
            y = graph.add("Mul", [y, float(alpha)], tuple(y.shape), like.dtype)
        return graph.add(operator, [x, y], like.shape, like.dtype)

    converts(*operations)(convert)


_adds("Add", aten.add.Tensor, aten.add_.Tensor)
_adds("Sub", aten.sub.Tensor, aten.sub_.Tensor)


@converts(aten.addcmul.default, aten.addcmul_.default)
def _addcmul(graph: GraphWriter, like: Value, x: Entry, y: Entry, z: Entry, value: float = 1) -> Value:
    if isinstance(y, Value) and y.with_norm is not None and isinstance(z, Tensor) and value == 1:
        per_channel = (y.shape[1], 1, 1)
        if tuple(z.shape) == tuple(x.shape) == per_channel:
            bias = x.view(-1) if isinstance(x, Tensor) else graph.add("Reshape", [x, [-1]], per_channel[:1])
            return y.with_norm(z.view(-1), bias)
    product = graph.add("Mul", [y, z], torch.broadcast_shapes(y.shape, z.shape))
    if abs(value) != 1:
        product = graph.add("Mul", [product, abs(float(value))], product.shape)
    return graph.add("Add" if value > 0 else "Sub", [x, product], like.shape)


@converts(aten.rsqrt.default, aten.rsqrt_.default)
def _rsqrt(graph: GraphWriter, like: Value, x: Entry) -> Value:
    return graph.add("Reciprocal", [graph.add("Sqrt", [x], like.shape)], like.shape)


@converts(aten.clamp.default, aten.clamp_.default, aten.hardtanh.default)
def _clamp(
    graph: GraphWriter, like: Value, x: Entry, low: float | None = None, high: float | None = None
) -> Value:
    ends = [None if end is None else float(end) for end in (low, high)]
    return graph.add("Clip", [x, *ends], like.shape)


@converts(own.pack_interior.default)
def _interior(graph: GraphWriter, like: Value, x: Entry, low: float, high: float) -> Value:
    """Returns a mask of booleans, in the shape of `x`."""
    shape = tuple(x.shape)
    parts = []
    for operator, end in (("Greater", low), ("Less", high)):
        if abs(end) != float("inf"):
            parts.append(graph.add(operator, [x, float(end)], shape, torch.bool))
    return parts[0] if len(parts) == 1 else graph.add("And", parts, shape, torch.bool)


@converts(own.apply_bits.default)
def _masked(graph: GraphWriter, like: Value, grad: Entry, mask: Value, out: Any = None) -> Value:
    """A product: onnxruntime's own `Where` needs four times as long."""
    kept = graph.add("Cast", [mask], tuple(mask.shape), to=onnx_type(torch.float32))
    return graph.add("Mul", [grad, kept], tuple(grad.shape))


@converts(aten.hardtanh_backward.default, aten.hardtanh_backward.grad_input)
def _hardtanh_backward(
    graph: GraphWriter, like: Value, grad: Entry, x: Entry, low: float, high: float
) -> Value:
    return _masked(graph, like, grad, _interior(graph, like, x, low, high))


@converts(aten.threshold_backward.default, aten.threshold_backward.grad_input)
def _threshold_backward(graph: GraphWriter, like: Value, grad: Entry, x: Entry, threshold: float) -> Value:
    return _masked(graph, like, grad, graph.add("Greater", [x, float(threshold)], tuple(x.shape), torch.bool))


@converts(aten.sigmoid_backward.default, aten.sigmoid_backward.grad_input)
def _sigmoid_backward(graph: GraphWriter, like: Value, grad: Entry, y: Entry) -> Value:
    shape = like.shape
    slope = graph.add("Sub", [y, graph.add("Mul", [y, y], shape)], shape)
    return graph.add("Mul", [grad, slope], shape)


@converts(aten.tanh_backward.default, aten.tanh_backward.grad_input)
def _tanh_backward(graph: GraphWriter, like: Value, grad: Entry, y: Entry) -> Value:
    slope = graph.add("Sub", [1.0, graph.add("Mul", [y, y], like.shape)], like.shape)
    return graph.add("Mul", [grad, slope], like.shape)


@converts(aten.hardsigmoid.default, aten.hardsigmoid_.default)
def _hardsigmoid(graph: GraphWriter, like: Value, x: Entry) -> Value:
    return graph.add("HardSigmoid", [x], like.shape, alpha=1 / 6, beta=0.5)


@converts(aten.hardsigmoid_backward.default, aten.hardsigmoid_backward.grad_input)
def _hardsigmoid_backward(graph: GraphWriter, like: Value, grad: Entry, x: Entry) -> Value:
    return _masked(
        graph, like, graph.add("Mul", [grad, 1 / 6], like.shape), _interior(graph, like, x, -3.0, 3.0)
    )


@converts(aten.hardswish_backward.default, aten.hardswish_backward.out)
def _hardswish_backward(graph: GraphWriter, like: Value, grad: Entry, x: Entry) -> Value:
    """0 below -3, 1 above 3, and x / 3 + 1 / 2 between."""
    line = graph.add("Add", [graph.add("Mul", [x, 1 / 3], like.shape), 0.5], like.shape)
    above = graph.add(
        "Where", [graph.add("Greater", [x, 3.0], like.shape, torch.bool), 1.0, line], like.shape
    )
    slope = graph.add("Where", [graph.add("Less", [x, -3.0], like.shape, torch.bool), 0.0, above], like.shape)
    return graph.add("Mul", [grad, slope], like.shape)


@converts(aten.silu.default, aten.silu_.default)
def _silu(graph: GraphWriter, like: Value, x: Entry) -> Value:
    return graph.add("Mul", [x, graph.add("Sigmoid", [x], like.shape)], like.shape)


@converts(aten.silu_backward.default, aten.silu_backward.grad_input)
def _silu_backward(graph: GraphWriter, like: Value, grad: Entry, x: Entry) -> Value:
    """S (1 + x (1 - s)), with s the sigmoid."""
    s = graph.add("Sigmoid", [x], like.shape)
    rest = graph.add("Mul", [x, graph.add("Sub", [1.0, s], like.shape)], like.shape)
    slope = graph.add("Mul", [s, graph.add("Add", [rest, 1.0], like.shape)], like.shape)
    return graph.add("Mul", [grad, slope], like.shape)


@converts(aten.sum.dim_IntList, aten.sum.default, aten.sum.IntList_out)
def _sum(
    graph: GraphWriter, like: Value, x: Entry, dims: Sequence[int] | None = None, keepdim: bool = False
) -> Value:
    if x.dtype is torch.bool:
        x = graph.add("Cast", [x], tuple(x.shape), torch.int64, to=onnx_type(torch.int64))
    return reduced(graph, "ReduceSum", x, dims, keepdim)


@converts(aten.mean.dim)
def _mean(graph: GraphWriter, like: Value, x: Entry, dims: Sequence[int], keepdim: bool = False) -> Value:
    return reduced(graph, "ReduceMean", x, dims, keepdim)


def reduced(graph: GraphWriter, operator: str, x: Entry, dims: Sequence[int] | None, keepdim: bool) -> Value:
    """Reduces some axes, all if `dims` is None or empty."""
    axes = sorted(dim % len(x.shape) for dim in (dims or range(len(x.shape))))
    kept = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    shape = kept if keepdim else [size for axis, size in enumerate(x.shape) if axis not in axes]
    return graph.add(operator, [x, axes], shape, x.dtype, keepdims=int(keepdim))


@converts(aten._log_softmax.default)
def _log_softmax(graph: GraphWriter, like: Value, x: Entry, dim: int, half_to_float: bool) -> Value:
    return graph.add("LogSoftmax", [x], like.shape, axis=dim)


@converts(aten.argmax.default)
def _argmax(graph: GraphWriter, like: Value, x: Entry, dim: int) -> Value:
    return graph.add("ArgMax", [x], like.shape, torch.int64, axis=dim, keepdims=0)


@converts(aten.mm.default)
def _mm(graph: GraphWriter, like: Value, x: Entry, y: Entry) -> Value:
    return graph.add("MatMul", [x, y], like.shape)


@converts(aten.addmm.default)
def _addmm(graph: GraphWriter, like: Value, bias: Entry, x: Entry, y: Entry) -> Value:
    return graph.add("Gemm", [x, y, bias], like.shape)


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


@converts(aten.avg_pool2d.default)
def _average_pool(
    graph: GraphWriter,
    like: Value,
    x: Entry,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> Value:
    if divisor is not None:
        raise NotImplementedError("average pooling with a divisor of its own")
    return graph.add(
        "AveragePool",
        [x],
        like.shape,
        kernel_shape=list(kernel),
        strides=list(stride or kernel),
        pads=[*padding, *padding],
        ceil_mode=int(ceil_mode),
        count_include_pad=int(count_include_pad),
    )


_RESIZES = {
    aten.upsample_bilinear2d_backward.default: aten.upsample_bilinear2d.default,
    aten.upsample_bicubic2d_backward.default: aten.upsample_bicubic2d.default,
    aten.upsample_nearest2d_backward.default: aten.upsample_nearest2d.default,
}
"""Each backward of a resize, and its forward. A resize is linear: two products with matrices."""


def _resizes(backward: Any, forward: Any) -> None:
    @converts(forward)
    def resize(graph: GraphWriter, like: Value, x: Entry, size: Sequence[int], *how: Any) -> Value:
        rows, columns = (_weights(forward, x.shape[axis], size[axis - 2], how) for axis in (2, 3))
        tall = graph.add("MatMul", [rows, x], (*x.shape[:2], size[0], x.shape[3]))
        return graph.add("MatMul", [tall, columns.T], like.shape)

    @converts(backward)
    def resize_backward(
        graph: GraphWriter, like: Value, grad: Entry, size: Sequence[int], source: Sequence[int], *how: Any
    ) -> Value:
        rows, columns = (_weights(forward, source[axis], size[axis - 2], how) for axis in (2, 3))
        tall = graph.add("MatMul", [rows.T, grad], (*source[:3], size[1]))
        return graph.add("MatMul", [tall, columns], like.shape)


def _weights(resize: Any, before: int, after: int, how: tuple[Any, ...]) -> Tensor:
    """Returns the matrix `(after, before)` by which a resize makes one axis of another."""
    if any(isinstance(scale, float) for scale in how):
        raise NotImplementedError("a resize by a factor: give it a size")
    return _matrix(resize, before, after, how[:1] if how and isinstance(how[0], bool) else ())


@cache
def _matrix(resize: Any, before: int, after: int, how: tuple[Any, ...]) -> Tensor:
    basis = torch.eye(before, dtype=torch.float64).view(1, before, before, 1)
    return resize(basis, [after, 1], *how)[0, :, :, 0].T.contiguous()


for _backward, _forward in _RESIZES.items():
    _resizes(_backward, _forward)
