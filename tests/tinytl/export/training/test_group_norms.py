import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.support.onnx_graphs import assert_translates


@pytest.mark.parametrize("asked", ["x", "x, gamma, beta", "gamma", "beta"])
@pytest.mark.parametrize("groups", [1, 3, 6])
def test_group_norm_and_its_gradients(groups: int, asked: str) -> None:
    torch.manual_seed(0)
    inputs = {
        "x": torch.randn(2, 6, 5, 4, dtype=torch.float64) * 2 + 1,
        "gamma": torch.randn(6, dtype=torch.float64),
        "beta": torch.randn(6, dtype=torch.float64),
    }
    of = [list(inputs).index(name) for name in asked.split(", ")]
    grad = torch.randn(2, 6, 5, 4, dtype=torch.float64)

    def function(x: Tensor, gamma: Tensor, beta: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        y = F.group_norm(x, groups, gamma, beta, 1e-5)
        three = (x, gamma, beta)
        return y.detach(), *torch.autograd.grad(y, [three[index] for index in of], grad)

    assert_translates(function, *(one.requires_grad_(name in asked) for name, one in inputs.items()), grad)
