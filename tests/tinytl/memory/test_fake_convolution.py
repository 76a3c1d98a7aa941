import itertools

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from tinytl.memory.fake_convolution import BACKWARD, FORWARD, convolved

SETTINGS = [
    ((2, 8, 9, 7), (4, 8, 3, 3), ([2, 2], [1, 1], [1, 1], False, [0, 0], 1)),
    ((1, 8, 9, 7), (8, 1, 5, 3), ([1, 2], [2, 1], [1, 1], False, [0, 0], 8)),
    ((3, 8, 1, 1), (16, 8, 1, 1), ([1, 1], [0, 0], [1, 1], False, [0, 0], 1)),
    ((2, 8, 5, 4), (8, 3, 3, 3), ([2, 2], [1, 1], [2, 2], True, [1, 0], 2)),
    ((2, 4, 8, 8), (6, 4, 3, 3), ([1, 1], [0, 0], [2, 1], False, [0, 0], 1)),
]


def _forms(made: object) -> list[object]:
    several = made if isinstance(made, tuple) else (made,)
    return [None if t is None else (t.shape, t.stride(), t.dtype) for t in several]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("of_x", "of_weight", "settings"), SETTINGS)
def test_convolutions_are_those_of_fake_tensors(
    of_x: tuple[int, ...], of_weight: tuple[int, ...], settings: tuple[object, ...], dtype: torch.dtype
) -> None:
    formats = (torch.contiguous_format, torch.channels_last)
    transposed = settings[3]
    n_out = of_weight[1] * 2 if transposed else of_weight[0]
    for of_map, of_kernel in itertools.product(formats, formats):
        with FakeTensorMode():
            x = torch.empty(of_x, dtype=dtype).contiguous(memory_format=of_map)
            weight = torch.empty(of_weight, dtype=dtype).contiguous(memory_format=of_kernel)
            bias: Tensor | None
            for bias in (None, torch.empty(n_out, dtype=dtype)):
                args = (x, weight, bias, *settings)
                y = FORWARD(*args)
                assert _forms(convolved(FORWARD, args)) == _forms(y)
            for mask in ([True, True, True], [True, False, False], [False, True, False]):
                backward = (torch.empty_like(y), x, weight, [n_out], *settings, mask)
                assert _forms(convolved(BACKWARD, backward)) == _forms(BACKWARD(*backward))
