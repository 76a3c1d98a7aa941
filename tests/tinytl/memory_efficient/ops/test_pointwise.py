import dataclasses
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.support.cases import small
from tests.support.sampled import sampled
from tinytl.config.plan import lean_plan
from tinytl.device import gpu_emulated
from tinytl.memory.predict import predict_memory
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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n_pixels", [5, 300], ids=["small", "large"])
def test_on_a_gpu_s_path_every_type_is_a_product_and_the_same_function(dtype, n_pixels):
    """So many pixels that a CPU's path would let oneDNN add the bias."""
    made = torch.randn(2, 48, n_pixels, 6).to(dtype).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(40, 48, 1, 1).to(dtype), torch.randn(40).to(dtype)
    with gpu_emulated():
        assert by_matrix_product(made, weight)
        assert not by_matrix_product(made.contiguous(), weight)
        assert not by_matrix_product(made, weight.half())
        y = product_forward(made, weight, bias)
        grad = torch.randn_like(y)
        found = y, product_input_grad(grad, weight), product_weight_grad(grad, made)
    wide = [t.double().requires_grad_() for t in (made, weight)]
    expected = F.conv2d(*wide, bias.double())
    of_x, of_weight = torch.autograd.grad(expected, wide, grad.double())
    exactness = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    for one, other in zip(found, (expected.detach(), of_x, of_weight), strict=True):
        assert one.dtype is dtype
        assert float((one - other).abs().max()) <= exactness * float(other.abs().max())


@pytest.mark.parametrize(
    ("norm", "method"),
    sampled(itertools.product(("frozen_bn", "group_norm", "batch_norm"), ("TinyTL-L+B", "FT-Full")), 5),
)
def test_a_lean_step_on_a_gpu_has_no_convolution_of_1_x_1(norm, method):
    lean = lean_plan(small(method=method, norm=norm, resolution=64, device="cuda"))
    stock = dataclasses.replace(lean, engine="stock")
    of_lean, of_stock = (predict_memory(config).work.sums for config in (lean, stock))
    assert not [kind for kind in of_lean if "pointwise" in kind and "linear" not in kind]
    assert [kind for kind in of_stock if "pointwise" in kind]
