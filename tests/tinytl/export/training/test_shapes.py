import pytest
import torch
import torch.nn.functional as F

from tests.support.onnx_graphs import MAPS, assert_translates

FUNCTIONS = {
    "copied": lambda x: torch.empty_like(x).copy_(x[:1]) * 2,
    "views": lambda x: x.permute(0, 2, 3, 1).reshape(-1, 6).t().unsqueeze(1),
    "slices": lambda x: torch.cat([x[:, 1:3], x[:, :2, :, ::2].sum(3, True).expand(2, 2, 9, 7)], 1),
    "split": lambda x: torch.cat([part * (i + 1) for i, part in enumerate(x.split(4, 1))], 1),
    "picked": lambda x: x.index_select(1, torch.tensor([4, 0])),
    "padded": lambda x: F.pad(x, (1, 0, 2, 3), value=0.5),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_forward(name: str) -> None:
    assert_translates(lambda x: (FUNCTIONS[name](x),), MAPS)
