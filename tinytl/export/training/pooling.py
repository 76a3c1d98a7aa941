"""Average and max pooling in ONNX's operators; of a maximum, its place in the whole tensor is kept."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from tinytl.export.training.graph_writer import Entry, GraphWriter, Value


def max_pool(
    graph: GraphWriter,
    like: Value,
    x: Entry,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil_mode: bool = False,
) -> list[Value]:
    """As `aten.max_pool2d_with_indices`, but that indices are places in the whole tensor, not in a map."""
    sides = [list(one) * (2 // len(one)) for one in (kernel, stride or kernel, padding, dilation)]
    return graph.add_several(
        "MaxPool",
        [x],
        like.shape,
        (torch.float32, torch.int64),
        kernel_shape=sides[0],
        strides=sides[1],
        pads=sides[2] * 2,
        dilations=sides[3],
        ceil_mode=int(ceil_mode),
    )


def max_pool_backward(graph: GraphWriter, like: Value, grad: Entry, indices: Entry) -> Value:
    """Returns each output's gradient, added at its maximum, in the shape of the input."""
    flat, whole = (math.prod(grad.shape),), (math.prod(like.shape),)
    zeros = graph.add("ConstantOfShape", [whole], whole)
    places, values = (graph.add("Reshape", [one, flat], flat, one.dtype) for one in (indices, grad))
    summed = graph.add("ScatterElements", [zeros, places, values], whole, axis=0, reduction="add")
    return graph.add("Reshape", [summed, like.shape], like.shape)


def average_pool(
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
    """As `aten.avg_pool2d`."""
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


def average_pool_backward(
    graph: GraphWriter,
    like: Value,
    grad: Entry,
    _: Entry | None,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Value:
    """Spreads each output's gradient over its window: a transposed convolution with ones."""
    stride = stride or kernel
    channels, *sides = like.shape[1:]
    ones = torch.ones(1, 1, *sides, dtype=torch.float64)
    window = (tuple(kernel), tuple(stride), tuple(padding), ceil_mode, count_include_pad)
    shares = F.avg_pool2d(ones, *window, divisor) / F.avg_pool2d(ones, *window, 1)
    scaled = graph.add("Mul", [grad, shares], tuple(grad.shape))
    ends = [  # of the last window, beyond the picture; if negative, no window reaches so far
        (n - 1) * step + size - pad - side
        for n, step, size, pad, side in zip(grad.shape[2:], stride, kernel, padding, sides, strict=True)
    ]
    return graph.add(
        "ConvTranspose",
        [scaled, torch.ones(channels, 1, *kernel, dtype=torch.float64)],
        like.shape,
        strides=list(stride),
        pads=[*padding, *(max(end, 0) for end in ends)],
        output_padding=[max(-end, 0) for end in ends],
        group=channels,
    )
