import pytest
import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

from tinytl.memory_efficient.ops.layout import (
    channels_last,
    convolution_format,
    dense,
    dense_format,
    empty_like,
    memory_format,
)

SHAPE = (2, 3, 4, 5)


def _plain() -> Tensor:
    return torch.randn(SHAPE)


def _last() -> Tensor:
    return _plain().contiguous(memory_format=torch.channels_last)


LAYOUTS = {
    "contiguous": _plain,
    "channels_last": _last,
    "every second column": lambda: torch.randn(2, 3, 4, 10)[..., ::2],
    "transposed": lambda: torch.randn(2, 3, 5, 4).transpose(2, 3),
    "one number everywhere": lambda: torch.ones(()).expand(SHAPE),
    "a slice of channels": lambda: torch.randn(2, 6, 4, 5)[:, 1:4],
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_values_stay_in_every_layout(name: str) -> None:
    tensor = LAYOUTS[name]()
    assert torch.equal(channels_last(tensor), tensor)
    assert channels_last(tensor).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(dense(tensor), tensor)
    assert dense(tensor).is_contiguous(memory_format=dense_format(dense(tensor)))


@pytest.mark.parametrize(
    ("function", "made", "copies"),
    [
        (channels_last, _last, False),
        (channels_last, _plain, True),
        (dense, _last, False),
        (dense, _plain, False),
        (dense, lambda: _plain()[0], False),
        (dense, LAYOUTS["transposed"], True),
    ],
)
def test_what_lies_as_asked_is_not_copied(function, made, copies: bool) -> None:
    tensor = made()
    assert (function(tensor) is tensor) != copies


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (_plain, torch.contiguous_format),
        (_last, torch.channels_last),
        (lambda: torch.randn(2, 3, 1, 1), torch.channels_last),  # both
        (lambda: torch.randn(2, 1, 4, 5), torch.channels_last),
    ],
)
def test_a_tensor_that_is_both_counts_as_channels_last(made, expected: torch.memory_format) -> None:
    assert dense_format(made()) == expected


@pytest.mark.parametrize("shape", [SHAPE, (2, 1, 4, 5), (1, 3, 1, 1), (2, 3, 1, 5), (1,) * 4, (0, 3, 4, 5)])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_the_format_is_the_one_in_which_torch_answers(shape, form):
    x = torch.empty(shape).to(memory_format=form)
    expanded = torch.ones(()).expand(shape)
    for view in (x, x[:, :2], x[..., ::2], x.transpose(2, 3), x.transpose(1, 3), x[:1], expanded):
        assert memory_format(view) is suggest_memory_format(view)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("of_weight", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("of_x", [torch.contiguous_format, torch.channels_last])
def test_one_tensor_in_channels_last_decides_a_convolution(kernel, of_weight, of_x):
    conv = torch.nn.Conv2d(3, 4, kernel).to(memory_format=of_weight)
    x = torch.randn(SHAPE).to(memory_format=of_x)
    assert convolution_format(x, [conv.weight]) is memory_format(conv(x))


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_new_memory_has_type_and_layout(form) -> None:
    made = empty_like(SHAPE, torch.ones(1, dtype=torch.float64), form)
    assert (made.shape, made.dtype) == (SHAPE, torch.float64)
    assert made.is_contiguous(memory_format=form)
