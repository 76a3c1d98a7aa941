import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.support.onnx_graphs import MAPS, assert_translates

FUNCTIONS = {
    "clamp": lambda x: x.clamp(-1, 2),
    "clamp below": lambda x: (x * 1).clamp_min_(-1),
    "masked": lambda x: x.masked_fill(x > 1, -0.5),
    "relu": lambda x: torch.relu_(x * 1),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "leaky relu": lambda x: F.leaky_relu_(x * 1, 0.1),
    "silu": lambda x: F.silu(x * 1, inplace=True),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_forward(name: str) -> None:
    assert_translates(lambda x: (FUNCTIONS[name](x),), MAPS)


ACTIVATIONS = {
    "relu": F.relu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "leaky relu": lambda x: F.leaky_relu(x, 0.1),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_gradient_of_an_activation(name: str) -> None:
    def gradient(x: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(ACTIVATIONS[name](x), x, grad)

    assert_translates(gradient, MAPS.clone().requires_grad_(), MAPS.flip(0))
