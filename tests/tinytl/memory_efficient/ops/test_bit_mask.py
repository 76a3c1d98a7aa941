import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tinytl.memory_efficient.ops.bit_mask import apply_bits, memory_order, pack_interior


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1,), (8,), (3, 5), (2, 3, 5, 7), (1, 16, 97, 101)])
def test_masks_as_a_comparison_does(dtype, shape):
    values = (torch.randn(shape) * 5).to(dtype)
    values.view(-1)[0] = 6
    grad = torch.randn(shape).to(dtype)
    bits = pack_interior(values, 0.0, 6.0)
    assert bits.dtype == torch.uint8 and bits.numel() == math.ceil(values.numel() / 8)
    expected = torch.where((values > 0) & (values < 6), grad, torch.zeros((), dtype=dtype))
    out = torch.empty_like(grad)
    assert torch.equal(apply_bits(grad, bits, out), expected)
    assert torch.equal(apply_bits(grad, bits, grad), expected)


def test_works_in_memory_order_of_channels_last():
    values = torch.randn(2, 3, 5, 7).to(memory_format=torch.channels_last)
    grad = torch.randn(2, 3, 5, 7).to(memory_format=torch.channels_last)
    out = apply_bits(grad, pack_interior(values, 0.0, math.inf), torch.empty_like(grad))
    assert torch.equal(out, grad * (values > 0))


def test_infinite_gradient_is_cut_to_zero():
    grad = torch.tensor([math.inf, math.nan, math.inf])
    out = apply_bits(
        grad, pack_interior(torch.tensor([-1.0, -1.0, 1.0]), 0.0, math.inf), torch.empty_like(grad)
    )
    assert out.tolist() == [0.0, 0.0, math.inf]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("high", [6.0, math.inf])
def test_nan_counts_as_inside(dtype, high):
    values = torch.tensor([math.nan, -1.0, 0.0, 1.0], dtype=dtype)
    bits = pack_interior(values, 0.0, high)
    assert apply_bits(torch.ones(4, dtype=dtype), bits, torch.empty(4, dtype=dtype)).tolist() == [1, 0, 0, 1]


def test_a_tensor_that_needs_a_gradient_is_packed():
    values = torch.tensor([1.0, -1.0], requires_grad=True)
    bits = pack_interior(values, 0.0, 6.0)
    assert not bits.requires_grad
    assert apply_bits(torch.ones(2), bits, torch.empty(2)).tolist() == [1, 0]


def test_bits_of_another_tensor_are_refused():
    bits = pack_interior(torch.ones(8), 0.0, 6.0)
    with pytest.raises(ValueError, match="1 bytes of bits do not fit 16 elements"):
        apply_bits(torch.ones(16), bits, torch.empty(16))


def test_refuses_a_tensor_with_gaps():
    with pytest.raises(ValueError, match="dense"):
        memory_order(torch.zeros(4, 6)[:, ::2])


def test_runs_on_fake_tensors():
    with FakeTensorMode():
        values = torch.empty(2, 3, 5, 7)
        bits = pack_interior(values, 0.0, 6.0)
        assert bits.shape == (27,)
        assert apply_bits(values, bits, values).shape == values.shape
