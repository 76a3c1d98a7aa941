"""Activations, their gradients and the masks that they keep, in ONNX."""

from typing import Any

import torch

from tinytl.export.training.converters import converts, converts_elementwise
from tinytl.export.training.graph_writer import Entry, GraphWriter, Value, onnx_type
from tinytl.memory_efficient.ops import bit_mask  # noqa: F401  # registers the operations of `tinytl`

aten, own = torch.ops.aten, torch.ops.tinytl


converts_elementwise("Relu", aten.relu.default, aten.relu_.default)
converts_elementwise("Tanh", aten.tanh.default, aten.tanh_.default)
converts_elementwise("Sigmoid", aten.sigmoid.default, aten.sigmoid_.default)
converts_elementwise("HardSwish", aten.hardswish.default, aten.hardswish_.default)


@converts(aten.clamp.default, aten.clamp_.default, aten.hardtanh.default)
def _clamp(
    graph: GraphWriter, like: Value, x: Entry, low: float | None = None, high: float | None = None
) -> Value:
    ends = [None if end is None else float(end) for end in (low, high)]
    return graph.add("Clip", [x, *ends], like.shape)


@converts(aten.clamp_min.default, aten.clamp_min_.default)
def _clamp_min(graph: GraphWriter, like: Value, x: Entry, low: float) -> Value:
    return graph.add("Clip", [x, float(low), None], like.shape)


@converts(aten.masked_fill.Scalar, aten.masked_fill_.Scalar)
def _masked_fill(graph: GraphWriter, like: Value, x: Entry, mask: Entry, value: float) -> Value:
    return graph.add("Where", [mask, float(value), x], like.shape)


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


@converts(aten.leaky_relu.default, aten.leaky_relu_.default)
def _leaky_relu(graph: GraphWriter, like: Value, x: Entry, slope: float = 0.01) -> Value:
    return graph.add("LeakyRelu", [x], like.shape, alpha=float(slope))


@converts(aten.leaky_relu_backward.default, aten.leaky_relu_backward.grad_input)
def _leaky_relu_backward(
    graph: GraphWriter, like: Value, grad: Entry, x: Entry, slope: float, is_result: bool
) -> Value:
    positive = graph.add("Greater", [x, 0.0], like.shape, torch.bool)
    steep = graph.add("Cast", [positive], like.shape, to=onnx_type(torch.float32))
    rest = graph.add("Mul", [steep, 1.0 - slope], like.shape)
    return graph.add("Mul", [grad, graph.add("Add", [rest, float(slope)], like.shape)], like.shape)


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
