"""The weight gradient of depthwise convolutions with large kernels or on small maps, tap by tap.

oneDNN computes it in blocks of 16 x 16 channels, so that a depthwise kernel needs 256 times its weight in
scratch memory (55 MiB for 1,152 kernels of 7x7), and the time to clear it.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from tinytl.device import takes_cpu_path

CHANNEL_BLOCK = 16


def taps_are_leaner(grad: Tensor, x: Tensor, weight: Tensor, groups: int, stride: int) -> bool:
    """Whether `depthwise_weight_grad` needs less memory than torch's kernel for this convolution."""
    if weight.shape[1] != 1 or weight.shape[0] != groups or not takes_cpu_path(x):
        return False
    return _blocked_kernel_bytes(weight, x, stride) > (x.numel() + grad.numel()) * x.element_size()


def _blocked_kernel_bytes(weight: Tensor, x: Tensor, stride: int) -> int:
    """Returns the bytes that oneDNN's AVX-512 kernel needs beside a depthwise weight's gradient.

    It computes in blocks of 16 x 16 channels, so that 5x5 and 7x7 need 256 times their weight. 3x3 has a
    kernel of its own without blocks, unless the map is too small for it. The same on every CPU, so that a run
    computes the same sums on each.
    """
    map_size = x.shape[-1]
    if map_size == 1 and x.stride(-1) == 1:
        return 4 * weight.nbytes
    if weight.shape[2] == weight.shape[3] == 3 and map_size > 2 + (stride > 1):
        return 2 * weight.nbytes
    return weight.nbytes * (1 + CHANNEL_BLOCK**2)


def depthwise_weight_grad(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    sides: tuple[int, int, int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    """Returns the gradient `(C, 1, KH, KW)` of a depthwise weight for an input `x` `(N, C, H, W)`.

    `sides` is the padding (left, right, top, bottom). Temporaries: the padded input, and one product.
    """
    channels, _, high, wide = weight.shape
    padded = F.pad(x, sides)
    rows, columns = (grad.shape[2] - 1) * stride[0] + 1, (grad.shape[3] - 1) * stride[1] + 1
    taps = torch.empty((high, wide, channels), dtype=grad.dtype, device=grad.device)
    places = list(itertools.product(range(high), range(wide)))
    if isinstance(grad, FakeTensor):
        places = places[:1]  # nothing is computed there, and each tap needs the same memory
    for i, j in places:
        top, left = i * dilation[0], j * dilation[1]
        window = padded[:, :, top : top + rows : stride[0], left : left + columns : stride[1]]
        torch.sum(window * grad, (0, 2, 3), out=taps[i, j])
    return taps.permute(2, 0, 1).unsqueeze(1).contiguous()
