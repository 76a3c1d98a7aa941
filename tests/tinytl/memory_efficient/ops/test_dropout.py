import pytest
import torch
import torch.nn.functional as F

from tinytl.memory_efficient.ops.dropout import lean_dropout


@pytest.mark.parametrize("probability", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("training", [True, False])
def test_draws_and_computes_what_stock_does(probability, training):
    results = []
    for drop in (lean_dropout, F.dropout):
        torch.manual_seed(3)
        x = torch.randn(5, 33, requires_grad=True)
        y = drop(x, probability, training)
        y.backward(torch.arange(5 * 33.0).view(5, 33))
        results.append((y.detach(), x.grad, torch.rand(1)))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs)


FORMS = {
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(1, 2),
    "every second column": lambda x: x[..., ::2],
    "one number everywhere": lambda x: x[:1, :1].expand(4, 6, 5, 8),
}


@pytest.mark.parametrize("form", FORMS)
def test_draws_stock_s_mask_in_every_format(form):
    results = []
    for drop in (lean_dropout, F.dropout):
        torch.manual_seed(3)
        leaf = torch.randn(2, 6, 5, 8, requires_grad=True)
        x = FORMS[form](leaf)
        y = drop(x, 0.5, True)
        (y * torch.arange(y.numel()).view(y.shape)).sum().backward()
        results.append((y.detach(), leaf.grad))
        strides = y.stride()
    assert results[0][0].stride() == strides
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_keeps_one_bit_an_element(kept_bytes):
    x = torch.randn(8, 64, requires_grad=True)
    assert kept_bytes(lambda: lean_dropout(x, 0.5, True), []) == 64


def seeded(drop):
    def run(x):
        torch.manual_seed(0)
        return drop(x, 0.4, True)

    return run


@pytest.mark.parametrize("shape", [(6, 7), (2, 3, 4, 5)])
def test_harms_nobody(assert_harms_nobody, shape):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert_harms_nobody(seeded(lean_dropout), seeded(F.dropout), [x])


def test_gradcheck():
    x = torch.randn(4, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(seeded(lean_dropout), (x,))
