"""Resizes of maps and their gradients in ONNX: linear, so two products with matrices."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from tinytl.export.training.converters import converts
from tinytl.export.training.graph_writer import Entry, GraphWriter, Value

aten = torch.ops.aten


_RESIZES = {
    aten.upsample_bilinear2d_backward.default: aten.upsample_bilinear2d.default,
    aten.upsample_bicubic2d_backward.default: aten.upsample_bicubic2d.default,
    aten.upsample_nearest2d_backward.default: aten.upsample_nearest2d.default,
}
"""Each backward of a resize, and its forward."""


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
