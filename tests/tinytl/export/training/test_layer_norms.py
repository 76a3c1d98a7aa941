import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.support.onnx_graphs import assert_translates


@pytest.mark.parametrize("sizes", [(4,), (3, 4)])
@pytest.mark.parametrize(
    ("trained", "scaled"),
    [("x", False), ("x", True), ("gamma", True), ("beta", True), ("x, gamma and beta", True)],
)
def test_layer_norm_and_its_gradients(sizes: tuple[int, ...], trained: str, scaled: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64) * 3 + 1
    gamma, beta = torch.rand(sizes, dtype=torch.float64) + 0.5, torch.randn(sizes, dtype=torch.float64)
    tensors = {"x": x, "gamma": gamma, "beta": beta}
    for name in tensors:
        tensors[name].requires_grad_(name in trained)

    def step(x: Tensor, gamma: Tensor, beta: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        y = F.layer_norm(x, sizes, *((gamma, beta) if scaled else ()))
        wanted = [one for name, one in zip(tensors, (x, gamma, beta), strict=True) if name in trained]
        return y.detach(), *torch.autograd.grad(y, wanted, grad)

    assert_translates(step, x, gamma, beta, torch.randn_like(x))
