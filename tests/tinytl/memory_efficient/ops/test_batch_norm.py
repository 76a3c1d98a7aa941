import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tinytl.memory_efficient.ops import batch_norm
from tinytl.memory_efficient.ops.batch_norm import (
    Running,
    normalise_batch,
    normalise_batch_again,
    normalise_batch_grads,
)

LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}


def made(layout: torch.memory_format, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64).contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("affine", [True, False])
def test_answers_and_running_statistics_are_stock_s(affine: bool, layout: torch.memory_format) -> None:
    x = made(layout, 3, 6, 5, 4)
    gamma, beta = (torch.randn(6, dtype=torch.float64) if affine else None for _ in range(2))
    own = torch.randn(6, dtype=torch.float64), torch.rand(6, dtype=torch.float64)
    theirs = own[0].clone(), own[1].clone()
    expected = F.batch_norm(x, *theirs, gamma, beta, True, 0.3, 1e-3)
    y, stats = normalise_batch(x, gamma, beta, Running(*own, 0.3), 1e-3)
    assert torch.equal(y, expected)
    assert torch.equal(own[0], theirs[0]) and torch.equal(own[1], theirs[1])
    torch.testing.assert_close(normalise_batch_again(x, gamma, beta, stats), y, rtol=1e-12, atol=1e-12)
    assert y.stride() == expected.stride()


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("few_at_a_time", [False, True])
@pytest.mark.parametrize("needs", list(itertools.product((False, True), repeat=3))[1:], ids=str)
def test_gradients_are_autograd_s(
    needs: tuple[bool, bool, bool],
    few_at_a_time: bool,
    layout: torch.memory_format,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if few_at_a_time:
        monkeypatch.setattr(batch_norm, "AT_A_TIME_BYTES", 1)
    x, grad = made(layout, 3, 6, 5, 4), made(layout, 3, 6, 5, 4)
    gamma, beta = torch.randn(6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    wanted = [t.requires_grad_() for t, need in zip((x, gamma, beta), needs, strict=True) if need]
    expected = iter(torch.autograd.grad(F.batch_norm(x, None, None, gamma, beta, True), wanted, grad))
    _, stats = normalise_batch(x.detach(), gamma.detach(), beta.detach(), Running(None, None, 0.0), 1e-5)
    before = grad.clone()
    found = normalise_batch_grads(grad, x.detach(), gamma.detach(), stats, needs)
    for own, need in zip(found, needs, strict=True):
        if need:
            torch.testing.assert_close(own, next(expected), rtol=1e-10, atol=1e-10)
        else:
            assert own is None
    assert torch.equal(grad, before)


def test_the_input_s_gradient_may_take_the_place_of_the_one_that_came() -> None:
    x, grad = made(torch.channels_last, 3, 6, 5, 4), made(torch.channels_last, 3, 6, 5, 4)
    _, stats = normalise_batch(x, None, None, Running(None, None, 0.0), 1e-5)
    expected = normalise_batch_grads(grad, x, None, stats, (True, False, False)).x
    found = normalise_batch_grads(grad, x, None, stats, (True, False, False), out=grad).x
    assert found is grad and expected is not None
    assert torch.equal(found, expected)


def test_one_value_per_channel_is_refused_as_stock_refuses_it() -> None:
    x = torch.ones(1, 3, 1, 1)
    with pytest.raises(ValueError) as stock:
        F.batch_norm(x, None, None, training=True)
    with pytest.raises(ValueError) as own:
        normalise_batch(x, None, None, Running(None, None, 0.0), 1e-5)
    assert str(own.value) == str(stock.value)
