import pytest
import torch
import torch.nn.functional as F

from tinytl.memory_efficient.ops.depthwise import depthwise_weight_grad, taps_are_leaner


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
@pytest.mark.parametrize("dilation", [(1, 1), (1, 2)])
@pytest.mark.parametrize("sides", [(0, 0, 0, 0), (2, 2, 1, 1), (1, 2, 0, 1)])
def test_is_the_gradient(sides, dilation, stride, dtype):
    x = torch.randn(2, 6, 11, 12, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(6, 1, 5, 3, dtype=dtype, requires_grad=True)
    y = F.conv2d(F.pad(x, sides), weight, None, stride, 0, dilation, 6)
    grad = torch.randn_like(y)
    (expected,) = torch.autograd.grad(y, weight, grad)
    made = depthwise_weight_grad(grad, x, weight.detach(), sides, stride, dilation)
    torch.testing.assert_close(made, expected, rtol=1e-4 if dtype == torch.float32 else 1e-10, atol=1e-5)


def test_is_chosen_for_large_kernels_and_small_maps():
    def chosen(channels, kernel, size, groups=None):
        x = torch.empty(1, channels, size, size)
        return taps_are_leaner(x, x, torch.empty(channels, 1, kernel, kernel), groups or channels, 1)

    assert chosen(1152, 7, 7) and chosen(480, 5, 14)
    assert chosen(960, 3, 2)
    assert not chosen(960, 3, 7)
    assert not chosen(96, 5, 112)
    assert not chosen(480, 5, 14, groups=240)
