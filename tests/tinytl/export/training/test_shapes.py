import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.support.onnx_graphs import MAPS, assert_translates

FUNCTIONS = {
    "copied": lambda x: torch.empty_like(x).copy_(x[:1]) * 2,
    "views": lambda x: x.permute(0, 2, 3, 1).reshape(-1, 6).t().unsqueeze(1),
    "slices": lambda x: torch.cat([x[:, 1:3], x[:, :2, :, ::2].sum(3, True).expand(2, 2, 9, 7)], 1),
    "split": lambda x: torch.cat([part * (i + 1) for i, part in enumerate(x.split(4, 1))], 1),
    "split unevenly": lambda x: torch.cat([p * i for i, p in enumerate(x.split_with_sizes([1, 3, 2], 1))], 1),
    "unbound": lambda x: x.unbind(1)[2] * x.unbind(-1)[0].mean(),
    "empty memory, copied to": lambda x: torch.empty_strided(x.shape, x.stride(), dtype=x.dtype).copy_(x) + 1,
    "empty memory, filled": lambda x: torch.empty(2, 6, 9, 7, dtype=x.dtype).fill_(3) + x,
    "picked": lambda x: x.index_select(1, torch.tensor([4, 0])),
    "padded": lambda x: F.pad(x, (1, 0, 2, 3), value=0.5),
    "cut": lambda x: F.pad(x, (0, -1, -2, 3)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_forward(name: str) -> None:
    assert_translates(lambda x: (FUNCTIONS[name](x),), MAPS)


@pytest.mark.parametrize(("start", "end"), [(1, 4), (-2, None), (0, -1)])
def test_the_gradient_of_a_slice(start: int, end: int | None) -> None:
    def gradient(x: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(x[:, start:end, 2:], x, grad)

    assert_translates(gradient, MAPS.clone().requires_grad_(), MAPS[:, start:end, 2:])
