import pytest
import torch
import torch.nn.functional as F

from tests.support.onnx_graphs import MAPS, assert_translates

FUNCTIONS = {
    "arithmetic": lambda x: ((x * 2 + 1).sub_(x, alpha=0.5) / 3).neg(),
    "addcmul": lambda x: torch.addcmul(x, x, x, value=-0.5),
    "rsqrt": lambda x: (x * x + 1).rsqrt_(),
    "sum": lambda x: x.sum((0, 2), keepdim=True),
    "mean of all": lambda x: x.mean((-1, -2)),
    "norm": lambda x: torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True) + x.mean(),
    "batched product": lambda x: torch.bmm(x[:, 0], x[:, 1].transpose(1, 2)),
    "log softmax": lambda x: F.log_softmax(x.flatten(1), 1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_forward(name: str) -> None:
    assert_translates(lambda x: (FUNCTIONS[name](x),), MAPS)
