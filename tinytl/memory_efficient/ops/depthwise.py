"""The weight gradient of depthwise convolutions with large kernels or on small maps, tap by tap.

oneDNN computes it in blocks of 16 x 16 channels, so that a depthwise kernel needs 256 times its weight in
scratch memory (55 MiB for 1,152 kernels of 7x7), and the time to clear it.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from tinytl.memory_efficient.ops.kernel_scratch import weight_gradient_bytes


def taps_are_leaner(grad: Tensor, x: Tensor, weight: Tensor, groups: int, stride: int) -> bool:
    """Whether `depthwise_weight_grad` needs less memory than torch's kernel for this convolution."""
    if weight.shape[1] != 1 or weight.shape[0] != groups or not x.is_cpu:
        return False
    return weight_gradient_bytes(weight, groups, x, stride) > (x.numel() + grad.numel()) * x.element_size()


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
