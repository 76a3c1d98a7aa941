import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.support.onnx_graphs import assert_translates

KINDS = list(itertools.product((1, 3, 5), (1, 2), (1, 2, 6), (1, 2)))
"""Kernel, stride, groups, samples: 6 channels, so the last groups are depthwise."""


@pytest.mark.parametrize(("kernel", "stride", "groups", "n"), KINDS)
def test_a_convolution_and_all_its_gradients(kernel: int, stride: int, groups: int, n: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(n, 6, 9, 8, dtype=torch.float64)
    weight = torch.randn(12 if groups < 6 else 6, 6 // groups, kernel, kernel, dtype=torch.float64)
    bias = torch.randn(len(weight), dtype=torch.float64)
    how = (stride, kernel // 2, 1, groups)
    grad = torch.randn_like(F.conv2d(x, weight, bias, *how))

    def function(x: Tensor, weight: Tensor, bias: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        y = F.conv2d(x, weight, bias, *how)
        return y.detach(), *torch.autograd.grad(y, (x, weight, bias), grad)

    assert_translates(function, *(one.requires_grad_() for one in (x, weight, bias)), grad)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("kernel", [1, 3])
def test_the_gradient_through_a_weight_that_is_constant(kernel: int, groups: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 6 // groups, kernel, kernel, dtype=torch.float64)
    scale = torch.rand(6, 1, 1, dtype=torch.float64)

    def function(x: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        y = F.conv2d(x, weight, None, 1, kernel // 2, 1, groups) * scale
        return y.detach(), *torch.autograd.grad(y, x, grad)

    for n in (1, 2):
        x = torch.randn(n, 6, 5, 4, dtype=torch.float64)
        assert_translates(function, x.requires_grad_(), torch.randn(n, 6, 5, 4, dtype=torch.float64))
