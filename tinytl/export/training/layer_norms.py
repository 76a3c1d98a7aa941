"""Layer norm and its gradient in ONNX's operators, with the statistics that torch's backward reads."""

from collections.abc import Sequence

from tinytl.export.training.graph_writer import Entry, GraphWriter, Value


def layer_norm(
    graph: GraphWriter, x: Entry, sizes: Sequence[int], gamma: Entry | None, beta: Entry | None, eps: float
) -> tuple[Value, Value, Value]:
    """As `aten.native_layer_norm`: the output; mean and reciprocal deviation, of size 1 along `sizes`."""
    shape, axes, each = _axes(x, sizes)
    mean = graph.add("ReduceMean", [x, axes], each, keepdims=1)
    centred = graph.add("Sub", [x, mean], shape)
    variance = graph.add("ReduceMean", [graph.add("Mul", [centred, centred], shape), axes], each, keepdims=1)
    deviation = graph.add("Sqrt", [graph.add("Add", [variance, float(eps)], each)], each)
    rstd = graph.add("Reciprocal", [deviation], each)
    y = graph.add("Mul", [centred, rstd], shape)
    if gamma is not None:
        y = graph.add("Mul", [y, gamma], shape)
    if beta is not None:
        y = graph.add("Add", [y, beta], shape)
    return y, mean, rstd


def layer_norm_backward(
    graph: GraphWriter,
    grad: Entry,
    x: Entry,
    sizes: Sequence[int],
    mean: Entry,
    rstd: Entry,
    gamma: Entry | None,
    beta: Entry | None,
    output_mask: Sequence[bool],
) -> tuple[Value | None, Value | None, Value | None]:
    """As `aten.native_layer_norm_backward`: the gradients of input, gamma, beta that `output_mask` names."""
    shape, axes, each = _axes(x, sizes)
    others, own = list(range(axes[0])), tuple(sizes)
    grad_input = grad_gamma = grad_beta = None
    if output_mask[2]:
        grad_beta = graph.add("ReduceSum", [grad, others], own, keepdims=0)
    if not (output_mask[0] or output_mask[1]):
        return None, None, grad_beta
    normalised = graph.add("Mul", [graph.add("Sub", [x, mean], shape), rstd], shape)
    if output_mask[1]:
        product = graph.add("Mul", [grad, normalised], shape)
        grad_gamma = graph.add("ReduceSum", [product, others], own, keepdims=0)
    if output_mask[0]:
        scaled = grad if gamma is None else graph.add("Mul", [grad, gamma], shape)
        level = graph.add("ReduceMean", [scaled, axes], each, keepdims=1)
        product = graph.add("Mul", [scaled, normalised], shape)
        slope = graph.add("ReduceMean", [product, axes], each, keepdims=1)
        level_out = graph.add("Sub", [scaled, level], shape)
        slope_out = graph.add("Sub", [level_out, graph.add("Mul", [normalised, slope], shape)], shape)
        grad_input = graph.add("Mul", [slope_out, rstd], shape)
    return grad_input, grad_gamma, grad_beta


def _axes(x: Entry, sizes: Sequence[int]) -> tuple[tuple[int, ...], list[int], tuple[int, ...]]:
    """Returns the shape of `x`, the axes that are normalised, and the shape with 1 along them."""
    shape = tuple(x.shape)
    first = len(shape) - len(sizes)
    return shape, list(range(first, len(shape))), (*shape[:first], *(1 for _ in sizes))
