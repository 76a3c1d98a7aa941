"""Group norm and its gradient in ONNX's operators, with the statistics that torch's backward reads."""

from collections.abc import Sequence

from torch import Tensor

from tinytl.export.training.graph_writer import Entry, GraphWriter, Value


def group_norm(
    w: GraphWriter,
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
    rows = w.add("Reshape", [x, apart], apart)
    mean = w.add("ReduceMean", [rows, [2]], (n, groups, 1), keepdims=1)
    centred = w.add("Sub", [rows, mean], apart)
    variance = w.add("ReduceMean", [w.add("Mul", [centred, centred], apart), [2]], (n, groups, 1), keepdims=1)
    deviation = w.add("Sqrt", [w.add("Add", [variance, float(eps)], (n, groups, 1))], (n, groups, 1))
    rstd = w.add("Reciprocal", [deviation], (n, groups, 1))
    y = w.add("Reshape", [w.add("Mul", [centred, rstd], apart), shape], shape)
    if gamma is not None:
        y = w.add("Mul", [y, _per_channel(w, gamma)], shape)
    if beta is not None:
        y = w.add("Add", [y, _per_channel(w, beta)], shape)
    flat = (n, groups)
    return y, w.add("Reshape", [mean, flat], flat), w.add("Reshape", [rstd, flat], flat)


def group_norm_backward(
    w: GraphWriter,
    grad: Entry,
    x: Entry,
    mean: Entry,
    rstd: Entry,
    gamma: Entry | None,
    n: int,
    channels: int,
    pixels: int,
    groups: int,
    asked: Sequence[bool],
) -> tuple[Value | None, Value | None, Value | None]:
    """As `aten.native_group_norm_backward`: the gradients of input, gamma and beta, as far as asked for."""
    shape, apart, each = tuple(x.shape), (n, groups, channels // groups * pixels), (n, groups, 1)
    of_x = of_gamma = None
    of_beta = w.add("ReduceSum", [grad, [0, 2, 3]], (channels,), keepdims=0) if asked[2] else None
    if not (asked[0] or asked[1]):
        return None, None, of_beta
    mean, rstd = (w.add("Reshape", [one, each], each) for one in (mean, rstd))
    centred = w.add("Sub", [w.add("Reshape", [x, apart], apart), mean], apart)
    normalised = w.add("Mul", [centred, rstd], apart)
    if asked[1]:
        product = w.add("Mul", [grad, w.add("Reshape", [normalised, shape], shape)], shape)
        of_gamma = w.add("ReduceSum", [product, [0, 2, 3]], (channels,), keepdims=0)
    if asked[0]:
        scaled = grad if gamma is None else w.add("Mul", [grad, _per_channel(w, gamma)], shape)
        rows = w.add("Reshape", [scaled, apart], apart)
        level = w.add("ReduceMean", [rows, [2]], each, keepdims=1)
        slope = w.add("ReduceMean", [w.add("Mul", [rows, normalised], apart), [2]], each, keepdims=1)
        level_out = w.add("Sub", [rows, level], apart)
        slope_out = w.add("Sub", [level_out, w.add("Mul", [normalised, slope], apart)], apart)
        of_x = w.add("Reshape", [w.add("Mul", [slope_out, rstd], apart), shape], shape)
    return of_x, of_gamma, of_beta


def _per_channel(w: GraphWriter, values: Entry) -> Entry:
    """Returns `(C,)` as `(C, 1, 1)`."""
    shape = (values.shape[0], 1, 1)
    return values.reshape(shape) if isinstance(values, Tensor) else w.add("Reshape", [values, shape], shape)
