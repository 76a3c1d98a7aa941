"""Group norm and its gradient in ONNX's operators, with the statistics that torch's backward reads."""

from collections.abc import Sequence

from torch import Tensor

from tinytl.export.training.graph_writer import Entry, GraphWriter, Value


def group_norm(
    graph: GraphWriter,
    x: Entry,
    gamma: Entry | None,
    beta: Entry | None,
    n: int,
    channels: int,
    pixels: int,
    groups: int,
    eps: float,
) -> tuple[Value, Value, Value]:
    """As `aten.native_group_norm`: the output, and mean and reciprocal deviation `(N, groups)`."""
    shape, apart = tuple(x.shape), (n, groups, channels // groups * pixels)
    rows = graph.add("Reshape", [x, apart], apart)
    mean = graph.add("ReduceMean", [rows, [2]], (n, groups, 1), keepdims=1)
    centred = graph.add("Sub", [rows, mean], apart)
    variance = graph.add(
        "ReduceMean", [graph.add("Mul", [centred, centred], apart), [2]], (n, groups, 1), keepdims=1
    )
    deviation = graph.add("Sqrt", [graph.add("Add", [variance, float(eps)], (n, groups, 1))], (n, groups, 1))
    rstd = graph.add("Reciprocal", [deviation], (n, groups, 1))
    y = graph.add("Reshape", [graph.add("Mul", [centred, rstd], apart), shape], shape)
    if gamma is not None:
        y = graph.add("Mul", [y, _per_channel(graph, gamma)], shape)
    if beta is not None:
        y = graph.add("Add", [y, _per_channel(graph, beta)], shape)
    flat = (n, groups)
    return y, graph.add("Reshape", [mean, flat], flat), graph.add("Reshape", [rstd, flat], flat)


def group_norm_backward(
    graph: GraphWriter,
    grad: Entry,
    x: Entry,
    mean: Entry,
    rstd: Entry,
    gamma: Entry | None,
    n: int,
    channels: int,
    pixels: int,
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Value | None, Value | None, Value | None]:
    """As `aten.native_group_norm_backward`: the gradients of input, gamma, beta that `output_mask` names."""
    shape, apart, each = tuple(x.shape), (n, groups, channels // groups * pixels), (n, groups, 1)
    grad_input = grad_gamma = None
    grad_beta = graph.add("ReduceSum", [grad, [0, 2, 3]], (channels,), keepdims=0) if output_mask[2] else None
    if not (output_mask[0] or output_mask[1]):
        return None, None, grad_beta
    mean, rstd = (graph.add("Reshape", [one, each], each) for one in (mean, rstd))
    centred = graph.add("Sub", [graph.add("Reshape", [x, apart], apart), mean], apart)
    normalised = graph.add("Mul", [centred, rstd], apart)
    if output_mask[1]:
        product = graph.add("Mul", [grad, graph.add("Reshape", [normalised, shape], shape)], shape)
        grad_gamma = graph.add("ReduceSum", [product, [0, 2, 3]], (channels,), keepdims=0)
    if output_mask[0]:
        scaled = grad if gamma is None else graph.add("Mul", [grad, _per_channel(graph, gamma)], shape)
        rows = graph.add("Reshape", [scaled, apart], apart)
        level = graph.add("ReduceMean", [rows, [2]], each, keepdims=1)
        slope = graph.add("ReduceMean", [graph.add("Mul", [rows, normalised], apart), [2]], each, keepdims=1)
        level_out = graph.add("Sub", [rows, level], apart)
        slope_out = graph.add("Sub", [level_out, graph.add("Mul", [normalised, slope], apart)], apart)
        grad_input = graph.add("Reshape", [graph.add("Mul", [slope_out, rstd], apart), shape], shape)
    return grad_input, grad_gamma, grad_beta


def _per_channel(graph: GraphWriter, values: Entry) -> Entry:
    """Returns `(C,)` as `(C, 1, 1)`."""
    shape = (values.shape[0], 1, 1)
    return (
        values.reshape(shape) if isinstance(values, Tensor) else graph.add("Reshape", [values, shape], shape)
    )
