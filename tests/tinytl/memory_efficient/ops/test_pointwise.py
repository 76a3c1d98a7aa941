import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from tinytl.memory_efficient.ops.pointwise import (
    by_matrix_product,
    product_forward,
    product_input_grad,
    product_weight_grad,
)


@pytest.mark.parametrize("shape", [(2, 16, 7, 5), (1, 48, 12, 12), (3, 8, 1, 1)])
@pytest.mark.parametrize("width", [8, 40])
def test_is_the_convolution_and_its_gradients(shape, width):
    x = torch.randn(shape).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(width, shape[1], 1, 1, requires_grad=True)
    bias = torch.randn(width)
    assert by_matrix_product(x, weight)
    y = F.conv2d(x, weight, bias)
    grad = torch.randn_like(y)
    of_x, of_weight = torch.autograd.grad(y, (x, weight), grad)
    x, weight = x.detach(), weight.detach()
    made = product_forward(x, weight, bias)
    assert made.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(made, y.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(product_input_grad(grad, weight), of_x, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(product_weight_grad(grad, x), of_weight, rtol=1e-4, atol=1e-4)


def test_takes_only_what_it_can():
    weight = torch.randn(4, 8, 1, 1)
    x = torch.randn(2, 8, 5, 5)
    assert not by_matrix_product(x, weight)
    x = x.contiguous(memory_format=torch.channels_last)
    assert by_matrix_product(x, weight)
    assert not by_matrix_product(x.double(), weight.double())
    torch._C._set_mkldnn_enabled(False)
    try:
        assert not by_matrix_product(x, weight)
    finally:
        torch._C._set_mkldnn_enabled(True)


def test_runs_on_fake_tensors():
    with FakeTensorMode():
        x = torch.empty(2, 8, 5, 6).contiguous(memory_format=torch.channels_last)
        weight = torch.empty(4, 8, 1, 1)
        y = product_forward(x, weight, None)
        assert y.shape == (2, 4, 5, 6) and y.is_contiguous(memory_format=torch.channels_last)
        assert product_input_grad(y, weight).shape == x.shape
        assert product_weight_grad(y, x).shape == weight.shape
