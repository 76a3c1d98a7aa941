import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.support.onnx_graphs import MAPS, assert_translates


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "ceil_mode"),
    [(2, 2, 0, 1, False), (3, 2, 1, 1, False), (3, 2, 0, 1, True), ((3, 2), (1, 2), (1, 0), 2, False)],
)
def test_max_pooling_and_its_gradient(kernel, stride, padding, dilation, ceil_mode):
    x = torch.randn(2, 3, 9, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def pool(x: Tensor) -> Tensor:
        return F.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode)

    def step(x: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        y = pool(x)
        return y.detach(), *torch.autograd.grad(y, x, grad)

    grad = torch.randn(pool(x).shape, dtype=torch.float64)
    assert_translates(step, x.requires_grad_(), grad)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "ceil_mode", "count_include_pad"),
    [
        (2, 2, 0, False, True),
        (3, 2, 1, False, False),
        (2, 2, 0, True, False),
        ((3, 2), (1, 2), (1, 0), True, True),
    ],
)
def test_average_pooling_and_its_gradient(kernel, stride, padding, ceil_mode, count_include_pad) -> None:
    def pool(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, kernel, stride, padding, ceil_mode, count_include_pad)

    def step(x: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        y = pool(x)
        return y.detach(), *torch.autograd.grad(y, x, grad)

    assert_translates(step, MAPS.clone().requires_grad_(), torch.randn(pool(MAPS).shape, dtype=torch.float64))
