"""1x1 convolutions as matrix products: a channels_last map is a matrix already.

On a CPU with one thread torch convolves by columns (`use_mkldnn` in ATen's Convolution.cpp), which needs up
to twice the time, and the transposed oneDNN kernel holds a second copy of its result. On a GPU cuDNN turns
maps from one layout to the other in a workspace as large as both, and its weight gradient in channels_last
is slow. A product by cuBLAS has no workspace but the one that the process holds anyway.
"""

import torch
from torch import Tensor

from tinytl.device import takes_cpu_path


def by_matrix_product(x: Tensor, weight: Tensor) -> bool:
    """Whether a product of matrices serves channels_last maps of `x`'s type and device, and this `weight`.

    On a GPU in every type, as both libraries round and sum as `tinytl.training.mixed_precision` tells them.
    On a CPU in 32 bits alone.
    """
    return (
        x.dtype is weight.dtype
        and x.shape[1] > 1  # one channel is dense in both formats
        and x.is_contiguous(memory_format=torch.channels_last)
        and (not takes_cpu_path(x) or _pays_on_cpu(x))
    )


def _pays_on_cpu(x: Tensor) -> bool:
    return x.dtype is torch.float32 and _HAS_PRODUCT and torch._C._get_mkldnn_enabled()


def product_forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Returns the 1x1 convolution `(N, C', H, W)` of a channels_last `(N, C, H, W)`, a view of new memory."""
    if bias is None:
        made = torch.mm(_rows(x), _transposed(weight))
    elif not takes_cpu_path(x) or x.numel() // x.shape[1] * weight.shape[0] < _LARGE_OUTPUT:
        made = torch.addmm(bias, _rows(x), _transposed(weight))
    else:
        made = torch.ops.mkldnn._linear_pointwise.default(_rows(x), _matrix(weight), bias, "none", [], "")
    return _map(made, x)


def product_input_grad(grad: Tensor, weight: Tensor) -> Tensor:
    """Returns the gradient `(N, C, H, W)` of the input from that of the output."""
    return _map(torch.mm(_rows(grad), _matrix(weight)), grad)


def product_weight_grad(grad: Tensor, x: Tensor) -> Tensor:
    """Returns the gradient `(C', C, 1, 1)` of the weight."""
    rows, channels = grad.numel() // grad.shape[1], grad.shape[1]
    made = torch.mm(grad.as_strided((channels, rows), (1, channels)), _rows(x))
    return made.as_strided((channels, x.shape[1], 1, 1), (x.shape[1], 1, 1, 1))


def pick_channels(x: Tensor, channels: Tensor) -> Tensor:
    """Returns these channels `(n,)` of a map `(N, C, H, W)`, `(N, n, H, W)` in new memory, channels_last."""
    if not x.is_contiguous(memory_format=torch.channels_last):
        return x.index_select(1, channels).contiguous(memory_format=torch.channels_last)
    return _map(_rows(x).index_select(1, channels), x)  # twice as fast on a CPU


# Each of these views is one call, where `permute`, `view`, `flatten` and `t` are up to three: a step on small
# maps is bound by calls.


def _rows(x: Tensor) -> Tensor:
    """Returns a channels_last map as a matrix: a row per pixel, a column per channel."""
    channels = x.shape[1]
    return x.as_strided((x.numel() // channels, channels), (channels, 1))


def _map(rows: Tensor, like: Tensor) -> Tensor:
    """Returns a matrix as a channels_last map, of the pixels of `like`."""
    n, _, height, width = like.shape
    channels = rows.shape[1]
    strides = (height * width * channels, 1, width * channels, channels)
    return rows.as_strided((n, channels, height, width), strides)


def _matrix(weight: Tensor) -> Tensor:
    """Returns a weight `(C', C, 1, 1)` as `(C', C)`."""
    return weight.as_strided(weight.shape[:2], weight.stride()[:2])


def _transposed(weight: Tensor) -> Tensor:
    """Returns a weight `(C', C, 1, 1)` as `(C, C')`."""
    return weight.as_strided(weight.shape[1::-1], weight.stride()[1::-1])


_LARGE_OUTPUT = 1 << 17
"""Elements of a result above which it pays that oneDNN adds the bias on the way: torch's own product reads
and writes it once more."""
_HAS_PRODUCT = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
