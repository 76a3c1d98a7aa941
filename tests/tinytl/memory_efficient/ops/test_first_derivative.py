import pytest
import torch

from tinytl.memory_efficient.ops.first_derivative import first_derivative
from tinytl.memory_efficient.ops.upsample import lean_resize


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @first_derivative
    def backward(ctx, grad):
        assert not torch.is_grad_enabled()
        return 3 * ctx.saved_tensors[0] ** 2 * grad


def test_the_first_derivative_is_given():
    x = torch.tensor(2.0, requires_grad=True)
    Cube.apply(x).backward()
    assert x.grad == 12


@pytest.mark.parametrize("constant", [True, False])
def test_a_second_one_is_refused(constant):
    x = torch.tensor(2.0, requires_grad=True)
    y = Cube.apply(x)
    with pytest.raises(
        RuntimeError, match=r"^lean functions have no second derivative: leave out create_graph"
    ):
        torch.autograd.grad(y if constant else y**2, x, create_graph=True)


def test_lean_functions_refuse():
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(lean_resize(x, (8, 8)).sum(), x, create_graph=True)
