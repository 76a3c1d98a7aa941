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
from tinytl.export.training.graph_writer import Entry, GraphWriter, Value
from tinytl.export.training.group_norms import group_norm, group_norm_backward
from tinytl.memory_efficient.ops import bit_mask  # noqa: F401  # registers the operations of `tinytl`

aten, own = torch.ops.aten, torch.ops.tinytl
Converter = Callable[..., Any]
"""Called with the writer, the shape and the type of the result, and the operation's own arguments."""
CONVERTERS: dict[Any, Converter] = {
    aten.convolution.default: lambda w, _, *args: convolution(w, *args),
    aten.convolution_backward.default: lambda w, _, *args: convolution_backward(w, *args),
    aten.native_group_norm.default: lambda w, _, *args: group_norm(w, *args),
    aten.native_group_norm_backward.default: lambda w, _, *args: group_norm_backward(w, *args),
}


def converts(*operations: Any) -> Callable[[Converter], Converter]:
    """Registers a function for some operations."""

    def register(function: Converter) -> Converter:
        CONVERTERS.update(dict.fromkeys(operations, function))
        return function

    return register


def _elementwise(operator: str, *operations: Any) -> None:
    def convert(w: GraphWriter, of: Value, *inputs: Any, **_: Any) -> Value:
        return w.add(operator, [_number(one, inputs) for one in inputs], of.shape, of.dtype)

    converts(*operations)(convert)


def _number(entry: Any, beside: Sequence[Any]) -> Entry:
    """Returns an entry; a number as a constant of the type of what stands beside it."""
    if isinstance(entry, (int, float)):
        like = next(one for one in beside if not isinstance(one, (int, float)))
        return torch.tensor(entry, dtype=like.dtype)
    return entry


@converts(aten.mul.Tensor, aten.mul_.Tensor, aten.mul.Scalar)
def _mul(w: GraphWriter, of: Value, one: Any, other: Any) -> Value:
    product = w.add("Mul", [_number(one, (other,)), _number(other, (one,))], of.shape, of.dtype)
    if isinstance(one, Value) and isinstance(other, Tensor) and tuple(other.shape) == (*of.shape[1:2], 1, 1):
        return replace(product, source=one, factor=other)
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
    def convert(w: GraphWriter, of: Value, one: Any, other: Any, alpha: float = 1) -> Value:
        one, other = _number(one, (other,)), _number(other, (one,))
        if alpha != 1:
            other = w.add("Mul", [other, float(alpha)], tuple(other.shape), of.dtype)
        return w.add(operator, [one, other], of.shape, of.dtype)

    converts(*operations)(convert)


_adds("Add", aten.add.Tensor, aten.add_.Tensor)
_adds("Sub", aten.sub.Tensor, aten.sub_.Tensor)


@converts(aten.addcmul.default, aten.addcmul_.default)
def _addcmul(w: GraphWriter, of: Value, x: Entry, one: Entry, other: Entry, value: float = 1) -> Value:
    if isinstance(one, Value) and one.with_norm is not None and isinstance(other, Tensor) and value == 1:
        per_channel = (one.shape[1], 1, 1)
        if tuple(other.shape) == tuple(x.shape) == per_channel:
            bias = x.view(-1) if isinstance(x, Tensor) else w.add("Reshape", [x, [-1]], per_channel[:1])
            return one.with_norm(other.view(-1), bias)
    product = w.add("Mul", [one, other], torch.broadcast_shapes(one.shape, other.shape))
    if abs(value) != 1:
        product = w.add("Mul", [product, abs(float(value))], product.shape)
    return w.add("Add" if value > 0 else "Sub", [x, product], of.shape)


@converts(aten.rsqrt.default, aten.rsqrt_.default)
def _rsqrt(w: GraphWriter, of: Value, x: Entry) -> Value:
    return w.add("Reciprocal", [w.add("Sqrt", [x], of.shape)], of.shape)


@converts(aten.clamp.default, aten.clamp_.default, aten.hardtanh.default)
def _clamp(w: GraphWriter, of: Value, x: Entry, low: float | None = None, high: float | None = None) -> Value:
    ends = [None if end is None else float(end) for end in (low, high)]
    return w.add("Clip", [x, *ends], of.shape)


@converts(own.pack_interior.default)
def _interior(w: GraphWriter, of: Value, x: Entry, low: float, high: float) -> Value:
    """Returns a mask of booleans, in the shape of `x`."""
    shape = tuple(x.shape)
    parts = []
    for operator, end in (("Greater", low), ("Less", high)):
        if abs(end) != float("inf"):
            parts.append(w.add(operator, [x, float(end)], shape, torch.bool))
    return parts[0] if len(parts) == 1 else w.add("And", parts, shape, torch.bool)


@converts(own.apply_bits.default)
def _masked(w: GraphWriter, of: Value, grad: Entry, mask: Value, out: Any = None) -> Value:
    """A product: onnxruntime's own `Where` needs four times as long."""
    kept = w.add("Cast", [mask], tuple(mask.shape), to=1)
    return w.add("Mul", [grad, kept], tuple(grad.shape))


@converts(aten.hardtanh_backward.default, aten.hardtanh_backward.grad_input)
def _hardtanh_backward(w: GraphWriter, of: Value, grad: Entry, x: Entry, low: float, high: float) -> Value:
    return _masked(w, of, grad, _interior(w, of, x, low, high))


@converts(aten.threshold_backward.default, aten.threshold_backward.grad_input)
def _threshold_backward(w: GraphWriter, of: Value, grad: Entry, x: Entry, threshold: float) -> Value:
    return _masked(w, of, grad, w.add("Greater", [x, float(threshold)], tuple(x.shape), torch.bool))


@converts(aten.sigmoid_backward.default, aten.sigmoid_backward.grad_input)
def _sigmoid_backward(w: GraphWriter, of: Value, grad: Entry, y: Entry) -> Value:
    shape = of.shape
    slope = w.add("Sub", [y, w.add("Mul", [y, y], shape)], shape)
    return w.add("Mul", [grad, slope], shape)


@converts(aten.tanh_backward.default, aten.tanh_backward.grad_input)
def _tanh_backward(w: GraphWriter, of: Value, grad: Entry, y: Entry) -> Value:
    slope = w.add("Sub", [1.0, w.add("Mul", [y, y], of.shape)], of.shape)
    return w.add("Mul", [grad, slope], of.shape)


@converts(aten.hardsigmoid.default, aten.hardsigmoid_.default)
def _hardsigmoid(w: GraphWriter, of: Value, x: Entry) -> Value:
    return w.add("HardSigmoid", [x], of.shape, alpha=1 / 6, beta=0.5)


@converts(aten.hardsigmoid_backward.default, aten.hardsigmoid_backward.grad_input)
def _hardsigmoid_backward(w: GraphWriter, of: Value, grad: Entry, x: Entry) -> Value:
    return _masked(w, of, w.add("Mul", [grad, 1 / 6], of.shape), _interior(w, of, x, -3.0, 3.0))


@converts(aten.hardswish_backward.default, aten.hardswish_backward.out)
def _hardswish_backward(w: GraphWriter, of: Value, grad: Entry, x: Entry) -> Value:
    """0 below -3, 1 above 3, and x / 3 + 1 / 2 between."""
    line = w.add("Add", [w.add("Mul", [x, 1 / 3], of.shape), 0.5], of.shape)
    above = w.add("Where", [w.add("Greater", [x, 3.0], of.shape, torch.bool), 1.0, line], of.shape)
    slope = w.add("Where", [w.add("Less", [x, -3.0], of.shape, torch.bool), 0.0, above], of.shape)
    return w.add("Mul", [grad, slope], of.shape)


@converts(aten.sum.dim_IntList, aten.sum.default, aten.sum.IntList_out)
def _sum(w: GraphWriter, of: Value, x: Entry, dims: Sequence[int] | None = None, keep: bool = False) -> Value:
    if x.dtype is torch.bool:
        x = w.add("Cast", [x], tuple(x.shape), torch.int64, to=7)
    return reduced(w, "ReduceSum", x, dims, keep)


@converts(aten.mean.dim)
def _mean(w: GraphWriter, of: Value, x: Entry, dims: Sequence[int], keep: bool = False) -> Value:
    return reduced(w, "ReduceMean", x, dims, keep)


def reduced(w: GraphWriter, operator: str, x: Entry, dims: Sequence[int] | None, keep: bool) -> Value:
    """Reduces some axes, all if `dims` is None or empty."""
    axes = sorted(dim % len(x.shape) for dim in (dims or range(len(x.shape))))
    kept = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    shape = kept if keep else [size for axis, size in enumerate(x.shape) if axis not in axes]
    return w.add(operator, [x, axes], shape, x.dtype, keepdims=int(keep))


@converts(aten._log_softmax.default)
def _log_softmax(w: GraphWriter, of: Value, x: Entry, dim: int, half: bool) -> Value:
    return w.add("LogSoftmax", [x], of.shape, axis=dim)


@converts(aten.argmax.default)
def _argmax(w: GraphWriter, of: Value, x: Entry, dim: int) -> Value:
    return w.add("ArgMax", [x], of.shape, torch.int64, axis=dim, keepdims=0)


@converts(aten.mm.default)
def _mm(w: GraphWriter, of: Value, one: Entry, other: Entry) -> Value:
    return w.add("MatMul", [one, other], of.shape)


@converts(aten.addmm.default)
def _addmm(w: GraphWriter, of: Value, bias: Entry, one: Entry, other: Entry) -> Value:
    return w.add("Gemm", [one, other, bias], of.shape)


@converts(
    aten.view.default,
    aten._unsafe_view.default,
    aten.reshape.default,
    aten.unsqueeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
)
def _view(w: GraphWriter, of: Value, x: Entry, *_: Any) -> Value:
    return w.add("Reshape", [x, of.shape], of.shape, of.dtype)


@converts(aten.expand.default)
def _expand(w: GraphWriter, of: Value, x: Entry, *_: Any, **__: Any) -> Value:
    return w.add("Expand", [x, of.shape], of.shape, of.dtype)


@converts(aten.transpose.int, aten.t.default)
def _transpose(w: GraphWriter, of: Value, x: Entry, one: int = 0, other: int = 1) -> Value:
    order = list(range(len(x.shape)))
    order[one], order[other] = order[other], order[one]
    return w.add("Transpose", [x], of.shape, of.dtype, perm=order)


@converts(aten.permute.default)
def _permute(w: GraphWriter, of: Value, x: Entry, order: Sequence[int]) -> Value:
    return w.add("Transpose", [x], of.shape, of.dtype, perm=list(order))


@converts(aten.slice.Tensor)
def _slice(
    w: GraphWriter, of: Value, x: Entry, dim: int = 0, start: int = 0, end: int = 2**31, step: int = 1
) -> Value:
    end = min(end, x.shape[dim])
    return w.add("Slice", [x, [start or 0], [end], [dim], [step]], of.shape, of.dtype)


@converts(aten.cat.default)
def _cat(w: GraphWriter, of: Value, parts: Sequence[Entry], dim: int = 0) -> Value:
    return w.add("Concat", parts, of.shape, of.dtype, axis=dim)


@converts(aten.index_select.default)
def _index_select(w: GraphWriter, of: Value, x: Entry, dim: int, index: Entry) -> Value:
    if isinstance(x, Value) and x.rows:
        assert dim == 1  # channels
        shape = (x.map_shape[0], index.shape[0], *x.map_shape[2:])
        picked = w.add("Gather", [x, index], shape, of.dtype, axis=1)
        return Value(picked.name, of.shape, of.dtype, rows=True, map_shape=shape)
    return w.add("Gather", [x, index], of.shape, of.dtype, axis=dim)


@converts(aten.as_strided.default, aten.as_strided_.default)
def _as_strided(w: GraphWriter, of: Value, x: Value, size: Sequence[int], *_: Any) -> Value:
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
def _pad(w: GraphWriter, of: Value, x: Entry, pads: Sequence[int], value: float = 0.0) -> Value:
    """`pads`: before and after, the last axis first."""
    if not any(pads):
        assert isinstance(x, Value)
        return x
    if min(pads) < 0:
        raise NotImplementedError("padding that cuts")
    pairs = [(0, 0)] * (len(x.shape) - len(pads) // 2)
    pairs += [(pads[i], pads[i + 1]) for i in range(len(pads) - 2, -1, -2)]
    amounts = [before for before, _ in pairs] + [after for _, after in pairs]
    return w.add("Pad", [x, amounts, float(value)], of.shape, of.dtype)


@converts(
    aten.clone.default,
    aten.alias.default,
    aten.detach.default,
    aten.contiguous.default,
    aten.lift_fresh.default,
)
def _same(w: GraphWriter, of: Value, x: Entry, *_: Any, **__: Any) -> Entry:
    return x


@converts(aten._to_copy.default)
def _to_copy(w: GraphWriter, of: Value, x: Entry, **_: Any) -> Entry:
    floats = (torch.float32, torch.float64)
    if x.dtype is of.dtype or (x.dtype in floats and of.dtype in floats):
        return x
    number = {torch.float32: 1, torch.float64: 1, torch.int64: 7, torch.bool: 9, torch.uint8: 2}[of.dtype]
    return w.add("Cast", [x], of.shape, of.dtype, to=number)


@converts(aten.avg_pool2d.default)
def _average_pool(
    w: GraphWriter,
    of: Value,
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
    return w.add(
        "AveragePool",
        [x],
        of.shape,
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
    def resize(w: GraphWriter, of: Value, x: Entry, size: Sequence[int], *how: Any) -> Value:
        rows, columns = (_weights(forward, x.shape[axis], size[axis - 2], how) for axis in (2, 3))
        tall = w.add("MatMul", [rows, x], (*x.shape[:2], size[0], x.shape[3]))
        return w.add("MatMul", [tall, columns.T], of.shape)

    @converts(backward)
    def resize_backward(
        w: GraphWriter, of: Value, grad: Entry, size: Sequence[int], source: Sequence[int], *how: Any
    ) -> Value:
        rows, columns = (_weights(forward, source[axis], size[axis - 2], how) for axis in (2, 3))
        tall = w.add("MatMul", [rows.T, grad], (*source[:3], size[1]))
        return w.add("MatMul", [tall, columns], of.shape)


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
