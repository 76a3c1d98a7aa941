import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.support.onnx_graphs import assert_translates


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_and_its_gradient(approximate: str) -> None:
    torch.manual_seed(0)
    x = (torch.randn(2, 5, 3, 4, dtype=torch.float64) * 3).requires_grad_()

    def step(x: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        y = F.gelu(x, approximate=approximate)
        return y.detach(), *torch.autograd.grad(y, x, grad)

    assert_translates(step, x, torch.randn_like(x))
