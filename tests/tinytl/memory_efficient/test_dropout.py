import pytest
import torch
import torch.nn.functional as F

from tinytl.memory_efficient.dropout import lean_dropout


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


def test_keeps_one_bit_an_element(kept_bytes):
    x = torch.randn(8, 64, requires_grad=True)
    assert kept_bytes(lambda: lean_dropout(x, 0.5, True), []) == 64


def test_never_edits_a_gradient_that_others_hold(assert_same):
    def run(drop):
        def sum_of_both(x):
            torch.manual_seed(0)
            return drop(x * 2, 0.5, True) + x

        return sum_of_both

    assert_same(
        run(lean_dropout), run(F.dropout), [torch.randn(6, 7, dtype=torch.float64, requires_grad=True)]
    )
