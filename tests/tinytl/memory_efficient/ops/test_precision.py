import pytest
import torch

from tinytl.memory_efficient.ops.precision import autocast_dtype, cast_to, gradient_wanted, without_autocast


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_a_convolution_gets_the_type_that_torchs_own_gets(dtype: torch.dtype) -> None:
    x, weight = torch.randn(1, 1, 2, 2, dtype=dtype), torch.randn(1, 1, 1, 1, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        asked = autocast_dtype(x)
        assert torch.conv2d(x, weight).dtype == (x.dtype if asked is None else asked)
        with without_autocast(x):
            assert autocast_dtype(x) is None
            assert torch.conv2d(x, weight).dtype == dtype
        assert autocast_dtype(x) == asked
    assert autocast_dtype(x) is None


def test_outside_of_autocast_nothing_is_entered() -> None:
    with without_autocast(torch.ones(1)):
        assert not torch.is_autocast_enabled("cpu")


def test_a_gradient_is_wanted_while_they_are_recorded_if_one_tensor_asks() -> None:
    plain, asks = torch.ones(1), torch.ones(1, requires_grad=True)
    assert gradient_wanted(None, plain, asks)
    assert not gradient_wanted(None, plain)
    assert not gradient_wanted()
    with torch.no_grad():
        assert not gradient_wanted(asks)


def test_a_tensor_of_the_type_is_itself_and_gradients_pass_a_cast() -> None:
    x = torch.ones(2, requires_grad=True)
    assert cast_to(x, torch.float32) is x
    cast_to(x, torch.float64).sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.float32
