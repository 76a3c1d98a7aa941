"""Convolutions and their gradients in ONNX's operators, of which none is a gradient."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from tinytl.export.training.graph_writer import Entry, GraphWriter, Value

Pair = Sequence[int]


def convolution(
    graph: GraphWriter,
    x: Entry,
    weight: Entry,
    bias: Entry | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    transposed: bool,
    output_padding: Pair,
    groups: int,
) -> Value:
    """As `aten.convolution`.

    What multiplies the channels of its input is multiplied into a constant weight: the gradient that passes a
    frozen norm meets the same folded weight as the forward pass, so there is one. A transposed convolution of
    stride 1 with a constant weight is a plain one, which a runtime has faster kernels for.
    """
    whole = groups == 1 or transposed or groups == weight.shape[0]
    if isinstance(x, Value) and x.source and x.factor is not None and isinstance(weight, Tensor) and whole:
        weight = _with_factor(weight, x.factor, transposed or groups > 1)
        x = x.source
    kernel = tuple(weight.shape[2:])
    plain = tuple(stride) == kernel == (1, 1) and not any(padding) and not transposed and groups == 1
    if plain and bias is None and isinstance(weight, Tensor) and _is_transposed(weight):
        return _by_transposed(graph, x, weight)
    if transposed and isinstance(weight, Tensor) and tuple(stride) == (1, 1) and not any(output_padding):
        padding = [d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding, strict=True)]
        weight, transposed = _flipped(weight, groups), False
    attributes: dict[str, Any] = {
        "strides": list(stride),
        "pads": [*padding, *padding],
        "dilations": list(dilation),
        "group": groups,
    }
    sizes = zip(x.shape[2:], kernel, stride, padding, dilation, output_padding, strict=True)
    if not transposed:
        shape = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d, _ in sizes]
        convolved = graph.add("Conv", [x, weight, bias], (x.shape[0], weight.shape[0], *shape), **attributes)
        if bias is not None or not isinstance(weight, Tensor):
            return convolved

        def with_norm(factor: Tensor, shift: Entry) -> Value:
            scaled = weight * factor.view(-1, 1, 1, 1)
            settings = (stride, padding, dilation, False, output_padding, groups)
            return convolution(graph, x, scaled, shift, *settings)

        return replace(convolved, with_norm=with_norm)
    shape = [(n - 1) * s - 2 * p + d * (k - 1) + o + 1 for n, k, s, p, d, o in sizes]
    return graph.add(
        "ConvTranspose",
        [x, weight, bias],
        (x.shape[0], weight.shape[1] * groups, *shape),
        output_padding=list(output_padding),
        **attributes,
    )


def _with_factor(weight: Tensor, factor: Tensor, first: bool) -> Tensor:
    """Multiplies the input channels of a weight, which are its first axis or else its second."""
    if first:
        return weight * factor.view(-1, 1, 1, 1)
    turned = weight.transpose(0, 1)  # as the forward pass rounds it
    return (turned * factor.view(-1, 1, 1, 1)).transpose(0, 1)


def _by_transposed(graph: GraphWriter, x: Entry, weight: Tensor) -> Value:
    """A 1x1 convolution with a weight `(C', C, 1, 1)` of which the forward pass has the transposed one."""
    n, channels, height, width = x.shape
    out, pixels = weight.shape[0], height * width
    known = weight.transpose(0, 1).reshape(channels, out, 1, 1)
    if n > 1:
        flat = graph.add("Reshape", [known, [channels, out]], (channels, out))
        turned = graph.add("Transpose", [flat], (out, channels), perm=[1, 0])
        again = graph.add("Reshape", [turned, [out, channels, 1, 1]], (out, channels, 1, 1))
        return graph.add("Conv", [x, again], (n, out, height, width))
    flat = graph.add("Reshape", [known, [channels, out]], (channels, out))
    rows = graph.add("Reshape", [x, [channels, pixels]], (channels, pixels))
    product = graph.add("Gemm", [flat, rows], (out, pixels), transA=1)
    return graph.add("Reshape", [product, [n, out, height, width]], (n, out, height, width))


def _is_transposed(weight: Tensor) -> bool:
    """Whether a 1x1 weight is a view of the one whose first two axes are the other way round."""
    return weight.stride()[:2] == (1, weight.shape[0]) != (1, 1)


def _flipped(weight: Tensor, groups: int) -> Tensor:
    """Returns `(C', C / groups, h, w)` of a transposed convolution's `(C, C' / groups, h, w)`."""
    c, per_group, *kernel = weight.shape
    split = weight.reshape(groups, c // groups, per_group, *kernel)
    return split.transpose(1, 2).reshape(groups * per_group, c // groups, *kernel).flip(2, 3)


def convolution_backward(
    graph: GraphWriter,
    grad: Entry,
    x: Entry,
    weight: Entry,
    bias_sizes: Sequence[int] | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    transposed: bool,
    output_padding: Pair,
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Value | None, Value | None, Value | None]:
    """As `aten.convolution_backward`: those gradients of input, weight and bias that `output_mask` names."""
    if transposed:
        raise NotImplementedError("the gradient of a transposed convolution")
    grad_input = grad_weight = grad_bias = None
    if output_mask[0]:
        sizes = zip(x.shape[2:], grad.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
        rest = [n - ((m - 1) * s - 2 * p + d * (k - 1) + 1) for n, m, k, s, p, d in sizes]
        grad_input = convolution(graph, grad, weight, None, stride, padding, dilation, True, rest, groups)
    if output_mask[1]:
        grad_weight = _weight_grad(graph, grad, x, tuple(weight.shape), stride, padding, dilation, groups)
    if output_mask[2]:
        grad_bias = graph.add("ReduceSum", [grad, [0, 2, 3]], (grad.shape[1],), keepdims=0)
    return grad_input, grad_weight, grad_bias


def _weight_grad(
    graph: GraphWriter,
    grad: Entry,
    x: Entry,
    shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Value:
    """Returns the gradient of a weight, a place of the kernel after the other: a product over all pixels."""
    _, _, height, width = x.shape
    out, per_group, tall, wide = shape
    rows, columns = grad.shape[2:]
    if any(padding):
        (up, left), size = padding, (height + 2 * padding[0], width + 2 * padding[1])
        x = graph.add("Pad", [x, [0, 0, up, left, 0, 0, up, left]], (*x.shape[:2], *size))
    taps = []
    for i in range(tall):
        for j in range(wide):
            first = (i * dilation[0], j * dilation[1])
            last = (first[0] + (rows - 1) * stride[0] + 1, first[1] + (columns - 1) * stride[1] + 1)
            seen = x
            if (tall, wide) != (1, 1) or tuple(stride) != (1, 1):
                part = [x, list(first), list(last), [2, 3], list(stride)]
                seen = graph.add("Slice", part, (*x.shape[:2], rows, columns))
            taps.append(_product(graph, grad, seen, groups))
    if len(taps) == 1:
        return graph.add("Reshape", [taps[0], shape], shape)
    rows_of_taps = [graph.add("Reshape", [tap, [out, per_group, 1]], (out, per_group, 1)) for tap in taps]
    joined = graph.add("Concat", rows_of_taps, (out, per_group, len(taps)), axis=2)
    return graph.add("Reshape", [joined, shape], shape)


def _product(graph: GraphWriter, grad: Entry, seen: Entry, groups: int) -> Value:
    """Returns `(groups, C' / groups, C / groups)`: gradient times input, summed over samples and pixels."""
    n, out, rows, columns = grad.shape
    channels, pixels = seen.shape[1], rows * columns
    if groups == out == channels:
        product = graph.add("Mul", [grad, seen], tuple(grad.shape))
        return graph.add("ReduceSum", [product, [0, 2, 3]], (out,), keepdims=0)
    of_group, per_group = out // groups, channels // groups
    left_shape, right_shape = (n, groups, of_group, pixels), (n, groups, per_group, pixels)
    left = graph.add("Reshape", [grad, left_shape], left_shape)
    right = graph.add("Reshape", [seen, right_shape], right_shape)
    turned = graph.add("Transpose", [right], (n, groups, pixels, per_group), perm=[0, 1, 3, 2])
    product = graph.add("MatMul", [left, turned], (n, groups, of_group, per_group))
    return graph.add("ReduceSum", [product, [0]], (groups, of_group, per_group), keepdims=0)
