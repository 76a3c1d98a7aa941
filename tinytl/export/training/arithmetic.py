"""Sums, products, comparisons, reductions and the products of matrices of a traced step, in ONNX."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tinytl.export.training.converters import converts, converts_elementwise, number
from tinytl.export.training.graph_writer import Entry, GraphWriter, Value, onnx_type

aten = torch.ops.aten


converts_elementwise("Div", aten.div.Tensor, aten.div_.Tensor, aten.div.Scalar)
converts_elementwise("Neg", aten.neg.default)
converts_elementwise("Exp", aten.exp.default)
converts_elementwise("Equal", aten.eq.Tensor, aten.eq.Scalar)
converts_elementwise("Greater", aten.gt.Scalar, aten.gt.Tensor)
converts_elementwise("And", aten.bitwise_and.Tensor)


@converts(aten.mul.Tensor, aten.mul_.Tensor, aten.mul.Scalar)
def _mul(graph: GraphWriter, like: Value, x: Any, y: Any) -> Value:
    product = graph.add("Mul", [number(x, (y,)), number(y, (x,))], like.shape, like.dtype)
    if isinstance(x, Value) and isinstance(y, Tensor) and tuple(y.shape) == (*like.shape[1:2], 1, 1):
        return replace(product, source=x, factor=y)
    return product


def _adds(operator: str, *operations: Any) -> None:
    def convert(graph: GraphWriter, like: Value, x: Any, y: Any, alpha: float = 1) -> Value:
        x, y = number(x, (y,)), number(y, (x,))
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


@converts(aten.sum.dim_IntList, aten.sum.default, aten.sum.IntList_out)
def _sum(
    graph: GraphWriter, like: Value, x: Entry, dims: Sequence[int] | None = None, keepdim: bool = False
) -> Value:
    if x.dtype is torch.bool:
        x = graph.add("Cast", [x], tuple(x.shape), torch.int64, to=onnx_type(torch.int64))
    return reduced(graph, "ReduceSum", x, dims, keepdim)


@converts(aten.mean.dim, aten.mean.default)
def _mean(
    graph: GraphWriter, like: Value, x: Entry, dims: Sequence[int] | None = None, keepdim: bool = False
) -> Value:
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


@converts(aten.linalg_vector_norm.default)
def _norm(
    graph: GraphWriter,
    like: Value,
    x: Entry,
    order: float = 2,
    dims: Sequence[int] | None = None,
    keepdim: bool = False,
) -> Value:
    if order != 2:
        raise NotImplementedError(f"a norm of order {order}")
    return reduced(graph, "ReduceL2", x, dims, keepdim)


@converts(aten.mm.default, aten.bmm.default)
def _mm(graph: GraphWriter, like: Value, x: Entry, y: Entry) -> Value:
    return graph.add("MatMul", [x, y], like.shape)


@converts(aten.addmm.default)
def _addmm(graph: GraphWriter, like: Value, bias: Entry, x: Entry, y: Entry) -> Value:
    return graph.add("Gemm", [x, y, bias], like.shape)
