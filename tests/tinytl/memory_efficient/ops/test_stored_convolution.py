from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinytl.memory_efficient.block.reading import conv_spec
from tinytl.memory_efficient.ops.convolution import conv_forward
from tinytl.memory_efficient.ops.stored_convolution import lean_stored_conv2d
from tinytl.networks.backbones.inverted_residual import SamePadConv2d
from tinytl.networks.stored_weights import (
    store_frozen_weights_,
    stored_form,
    train_channels_,
    trained_part,
)

CONVOLUTIONS: dict[str, Callable[[], nn.Conv2d]] = {
    "pointwise": lambda: nn.Conv2d(6, 8, 1),
    "strided": lambda: nn.Conv2d(6, 8, 1, stride=2, bias=False),
    "dense": lambda: nn.Conv2d(6, 8, 3, padding=1),
    "depthwise": lambda: nn.Conv2d(6, 6, 5, 2, padding=2, groups=6),
    "padded by size": lambda: SamePadConv2d(6, 8, 3, 2, bias=False),
}


def convolution(name: str, form: str, channels: list[int]) -> nn.Conv2d:
    conv = CONVOLUTIONS[name]()
    conv.weight.requires_grad_(False)
    if channels:
        train_channels_(conv, channels)
    store_frozen_weights_(conv, form)
    return conv


def batch(layout: torch.memory_format = torch.channels_last, **how: Any) -> Tensor:
    return torch.randn(2, 6, 7, 8, **how).contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("channels", [[], [3], [0, 2, 5]])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_it_is_stock_with_the_weight_that_is_made(
    name: str, channels: list[int], layout: torch.memory_format, assert_same: Any
) -> None:
    conv = convolution(name, "int8", channels).double()
    form, part = stored_form(vars(conv)), trained_part(conv)
    spec, bias = conv_spec(conv), conv.bias

    def lean(x: Tensor, part: Tensor | None, bias: Tensor | None) -> Tensor:
        return lean_stored_conv2d(x, form, part, bias, spec)

    def stock(x: Tensor, part: Tensor | None, bias: Tensor | None) -> Tensor:
        left, right, top, bottom = spec.sides((7, 8), conv.kernel_size)
        x = F.pad(x, (left, right, top, bottom))
        return F.conv2d(x, form.whole(part), bias, spec.stride, 0, 1, spec.groups)

    x = batch(layout, dtype=torch.float64)
    for wants in (True, False):
        assert_same(lean, stock, [x.requires_grad_(wants), part, bias])


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_it_edits_nothing_that_others_hold(name: str, assert_harms_nobody: Any) -> None:
    conv = convolution(name, "int8", [1, 4]).double()
    form, spec = stored_form(vars(conv)), conv_spec(conv)
    before = form.frozen.clone()
    inputs = [batch(dtype=torch.float64).requires_grad_(), trained_part(conv), conv.bias]
    assert_harms_nobody(
        lambda x, part, bias: lean_stored_conv2d(x, form, part, bias, spec),
        lambda x, part, bias: conv_forward(x, form.whole(part), bias, spec).clone(),
        inputs,
    )
    assert torch.equal(form.frozen, before)


@pytest.mark.parametrize("form", ["bfloat16", "int8"])
def test_it_keeps_the_trained_channels_of_its_input(form: str, kept_bytes: Any) -> None:
    conv, x = convolution("dense", form, [0, 2, 5]), batch().requires_grad_()
    known = [*conv.parameters(), *conv.buffers(), x]
    stored, spec = stored_form(vars(conv)), conv_spec(conv)
    kept = kept_bytes(lambda: lean_stored_conv2d(x, stored, trained_part(conv), conv.bias, spec), known)
    assert kept == 3 * x.nbytes // 6


def test_autocast_computes_in_its_type_and_the_part_gets_a_gradient_of_its_own() -> None:
    conv, x = convolution("pointwise", "int8", [1, 2]), batch()
    stored, part = stored_form(vars(conv)), trained_part(conv)
    assert part is not None
    with torch.autocast("cpu", torch.bfloat16):
        y = lean_stored_conv2d(x, stored, part, conv.bias, conv_spec(conv))
    assert y.dtype is torch.bfloat16
    torch.testing.assert_close(y.float(), conv(x), rtol=0.05, atol=0.05)
    y.sum().backward()
    expected = torch.autograd.grad(conv(x).sum(), part)[0]
    assert part.grad is not None and part.grad.dtype is torch.float32
    torch.testing.assert_close(part.grad, expected, rtol=0.05, atol=0.5)
