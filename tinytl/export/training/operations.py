"""Which function writes each of torch's operations in ONNX's: layers, and the families beside."""

import torch

from tinytl.export.training import activations, arithmetic, resizes, shapes  # noqa: F401  # they register
from tinytl.export.training.converters import CONVERTERS
from tinytl.export.training.convolutions import convolution, convolution_backward
from tinytl.export.training.gelu import gelu, gelu_backward
from tinytl.export.training.group_norms import group_norm, group_norm_backward
from tinytl.export.training.layer_norms import layer_norm, layer_norm_backward
from tinytl.export.training.pooling import average_pool, average_pool_backward, max_pool, max_pool_backward

aten = torch.ops.aten

__all__ = ["CONVERTERS"]

CONVERTERS |= {
    aten.convolution.default: lambda graph, _, *args: convolution(graph, *args),
    aten.convolution_backward.default: lambda graph, _, *args: convolution_backward(graph, *args),
    aten.gelu.default: lambda graph, _, *args, **how: gelu(graph, *args, **how),
    aten.gelu_backward.default: lambda graph, _, *args, **how: gelu_backward(graph, *args, **how),
    aten.avg_pool2d.default: average_pool,
    aten.avg_pool2d_backward.default: average_pool_backward,
    aten.max_pool2d_with_indices.default: max_pool,
    aten.max_pool2d_with_indices_backward.default: lambda graph, like, grad, *args: max_pool_backward(
        graph, like, grad, args[-1]
    ),
    aten.native_group_norm.default: lambda graph, _, *args: group_norm(graph, *args),
    aten.native_group_norm_backward.default: lambda graph, _, *args: group_norm_backward(graph, *args),
    aten.native_layer_norm.default: lambda graph, _, *args: layer_norm(graph, *args),
    aten.native_layer_norm_backward.default: lambda graph, _, *args: layer_norm_backward(graph, *args),
}
