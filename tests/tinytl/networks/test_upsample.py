"""On a GPU's path, upsampling has PyTorch's own gradient, by operations that are repeatable there."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tinytl.device import gpu_emulated
from tinytl.networks.upsample import Mode, Size, upsample, upsample_grad

SIZES = [(8, 10), (7, 9), (4, 5), (3, 2), (13, 5)]
FORMATS = [torch.contiguous_format, torch.channels_last]


def _outcome(y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    (grad,) = torch.autograd.grad((y * weights).sum(), x)
    return y.detach(), grad


@pytest.mark.parametrize("layout", FORMATS, ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("size", SIZES)
def test_equals_pytorchs_own(size: Size, mode: Mode, dtype: torch.dtype, layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, 4, 5).to(dtype).contiguous(memory_format=layout).requires_grad_()
    expected, expected_grad = _outcome(F.interpolate(x, size, mode=mode), x)
    with gpu_emulated():
        y, grad = _outcome(upsample(x, size, mode), x)
    assert torch.equal(y, expected)
    assert torch.allclose(grad, expected_grad, rtol=0, atol=1e-13 if dtype == torch.float64 else 1e-5)
    assert upsample(x, size, mode).grad_fn.name().startswith("Upsample")  # a CPU's path is PyTorch's


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("layout", FORMATS, ids=["nchw", "nhwc"])
def test_the_gradient_keeps_the_format(mode: Mode, layout: torch.memory_format) -> None:
    grad = torch.randn(2, 3, 8, 6).contiguous(memory_format=layout)
    assert upsample_grad(grad, (4, 3), mode).is_contiguous(memory_format=layout)


def test_gradients_in_half_precision_are_those_of_float32_rounded() -> None:
    grad = torch.randn(2, 3, 8, 8).bfloat16()
    exact = upsample_grad(grad.float(), (4, 4), "bilinear")
    assert torch.allclose(upsample_grad(grad, (4, 4), "bilinear").float(), exact, rtol=0.02, atol=0.02)


def test_without_a_gradient_nothing_is_recorded() -> None:
    x = torch.randn(1, 2, 3, 3)
    with gpu_emulated():
        assert upsample(x, (6, 6), "bilinear").grad_fn is None
        with torch.no_grad():
            assert upsample(x.requires_grad_(), (6, 6), "bilinear").grad_fn is None
