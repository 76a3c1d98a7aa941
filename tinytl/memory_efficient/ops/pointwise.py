"""1x1 convolutions as matrix products by oneDNN, at up to twice the speed of torch's choice on one thread.

With one thread torch sends 1x1 convolutions to another library (`use_mkldnn` in ATen's Convolution.cpp), and
the transposed oneDNN kernel holds a second copy of its result. A channels_last map is a matrix already.
"""

from typing import cast

import torch
from torch import Tensor


def by_matrix_product(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN's product accepts channels_last maps of `x`'s type and device for this 1x1 `weight`."""
    return (
        x.dtype is torch.float32
        and weight.dtype is torch.float32
        and _HAS_PRODUCT
        and torch._C._get_mkldnn_enabled()
        and x.is_cpu
        and x.shape[1] > 1  # one channel is dense in both formats
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def product_forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Returns the 1x1 convolution `(N, C', H, W)` of a channels_last `(N, C, H, W)`."""
    made = _product(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    # No view any more: a network may edit what a block returns, as `y += x` and `ReLU(inplace=True)` do.
    return made.detach()


def product_input_grad(grad: Tensor, weight: Tensor) -> Tensor:
    """Returns the gradient `(N, C, H, W)` of the input from that of the output."""
    return _product(grad.permute(0, 2, 3, 1), weight.flatten(1).t(), None).permute(0, 3, 1, 2)


def product_weight_grad(grad: Tensor, x: Tensor) -> Tensor:
    """Returns the gradient `(C', C, 1, 1)` of the weight."""
    rows = grad.permute(0, 2, 3, 1).flatten(0, 2)
    columns = x.permute(0, 2, 3, 1).flatten(0, 2)
    # The kernel needs dense rows in its first factor. Transpose the narrower factor here, visible to the
    # memory tracker.
    if columns.shape[1] <= rows.shape[1]:
        made = _product(columns.t().contiguous(), rows.t(), None).t().contiguous()
    else:
        made = _product(rows.t().contiguous(), columns.t(), None)
    return made[:, :, None, None]


def _product(factor: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Returns factor @ weight.T + bias; the operation that torch's own compiler emits for linear layers."""
    if factor.numel() * weight.shape[0] < _SMALL_PRODUCT:
        return torch.nn.functional.linear(factor, weight, bias)
    return cast(Tensor, torch.ops.mkldnn._linear_pointwise.default(factor, weight, bias, "none", [], ""))


_SMALL_PRODUCT = 1 << 20
"""Multiplications below which oneDNN's preparation costs more time than it saves."""
_HAS_PRODUCT = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
