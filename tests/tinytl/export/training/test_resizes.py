import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.support.onnx_graphs import MAPS, assert_translates


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("size", [(18, 14), (13, 20), (4, 7)])
def test_a_resize_and_its_gradient(mode: str, size: tuple[int, int]) -> None:
    grad = torch.randn(2, 6, *size, dtype=torch.float64)

    def resize(x: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        y = F.interpolate(x, size=size, mode=mode)
        return y.detach(), *torch.autograd.grad(y, x, grad)

    assert_translates(resize, MAPS.clone().requires_grad_(), grad)
