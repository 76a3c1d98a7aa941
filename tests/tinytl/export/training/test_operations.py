import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.support.onnx_graphs import assert_translates

MAPS = torch.randn(2, 6, 9, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
FUNCTIONS = {
    "arithmetic": lambda x: ((x * 2 + 1).sub_(x, alpha=0.5) / 3).neg(),
    "addcmul": lambda x: torch.addcmul(x, x, x, value=-0.5),
    "rsqrt": lambda x: (x * x + 1).rsqrt_(),
    "clamp": lambda x: x.clamp(-1, 2),
    "relu": lambda x: torch.relu_(x * 1),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "silu": lambda x: F.silu(x * 1, inplace=True),
    "copied": lambda x: torch.empty_like(x).copy_(x[:1]) * 2,
    "sum": lambda x: x.sum((0, 2), keepdim=True),
    "mean of all": lambda x: x.mean((-1, -2)),
    "views": lambda x: x.permute(0, 2, 3, 1).reshape(-1, 6).t().unsqueeze(1),
    "slices": lambda x: torch.cat([x[:, 1:3], x[:, :2, :, ::2].sum(3, True).expand(2, 2, 9, 7)], 1),
    "split": lambda x: torch.cat([part * (i + 1) for i, part in enumerate(x.split(4, 1))], 1),
    "picked": lambda x: x.index_select(1, torch.tensor([4, 0])),
    "padded": lambda x: F.pad(x, (1, 0, 2, 3), value=0.5),
    "pooled": lambda x: F.avg_pool2d(x, 2, 2),
    "log softmax": lambda x: F.log_softmax(x.flatten(1), 1),
}  # fmt: skip


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
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_gradient_of_an_activation(name: str) -> None:
    def gradient(x: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(ACTIVATIONS[name](x), x, grad)

    assert_translates(gradient, MAPS.clone().requires_grad_(), MAPS.flip(0))


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("size", [(18, 14), (13, 20), (4, 7)])
def test_a_resize_and_its_gradient(mode: str, size: tuple[int, int]) -> None:
    grad = torch.randn(2, 6, *size, dtype=torch.float64)

    def resize(x: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        y = F.interpolate(x, size=size, mode=mode)
        return y.detach(), *torch.autograd.grad(y, x, grad)

    assert_translates(resize, MAPS.clone().requires_grad_(), grad)
