import itertools

import pytest
import torch
import torch.nn.functional as F

from tinytl.memory_efficient.ops.frozen_norm import FrozenNorm, fold_weight, lean_frozen_norm, unfold_grads


def parts(dtype):
    return [(torch.rand(5) + 0.5).to(dtype) for _ in range(3)] + [torch.randn(5).to(dtype)]


def stock(mean, var):
    return lambda x, gamma, beta: F.batch_norm(x, mean, var, gamma, beta, False, 0.0, 1e-3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("affine", [True, False])
def test_equals_stock_over_every_pattern(assert_same, dtype, affine):
    mean, var, gamma, beta = parts(dtype)
    x = torch.randn(3, 5, 4, 6).to(dtype)
    for pattern in itertools.product((False, True), repeat=3):
        made = [x, gamma if affine else None, beta if affine else None]
        for tensor, wants in zip(made, pattern, strict=True):
            if tensor is not None:
                tensor.requires_grad_(wants)
        assert_same(
            lambda x, g, b: lean_frozen_norm(x, FrozenNorm(mean, var, g, b, 1e-3)), stock(mean, var), made
        )


def test_gradcheck():
    mean, var, gamma, beta = parts(torch.float64)
    x = torch.randn(2, 5, 3, 2, dtype=torch.float64, requires_grad=True)
    gamma.requires_grad_(), beta.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, g, b: lean_frozen_norm(x, FrozenNorm(mean, var, g, b, 1e-3)), (x, gamma, beta)
    )


def test_harms_nobody(assert_harms_nobody):
    mean, var, gamma, beta = parts(torch.float64)
    made = [torch.randn(2, 5, 3, 2, dtype=torch.float64), gamma, beta]
    assert_harms_nobody(
        lambda x, g, b: lean_frozen_norm(x, FrozenNorm(mean, var, g, b, 1e-3)),
        stock(mean, var),
        [t.requires_grad_() for t in made],
    )


def test_keeps_the_input_only_where_gamma_trains(kept_bytes):
    mean, var, gamma, beta = parts(torch.float32)
    x = torch.randn(3, 5, 4, 6, requires_grad=True)
    beta.requires_grad_()
    norm = FrozenNorm(mean, var, gamma, beta, 1e-5)
    assert kept_bytes(lambda: lean_frozen_norm(x, norm), [mean, var, gamma, beta]) == 0
    gamma.requires_grad_()
    assert kept_bytes(lambda: lean_frozen_norm(x, norm), [mean, var, gamma, beta]) == x.numel() * 4


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("gamma_value", [None, 0.0])
def test_folding_and_back_are_one_computation(with_bias, gamma_value):
    mean, var, gamma, beta = parts(torch.float64)
    if gamma_value is not None:
        gamma.fill_(gamma_value)
    weight = torch.randn(5, 3, 3, 3, dtype=torch.float64)
    bias = torch.randn(5, dtype=torch.float64) if with_bias else None
    leaves = [t for t in (weight, bias, gamma, beta) if t is not None]
    for leaf in leaves:
        leaf.requires_grad_()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    y = F.batch_norm(F.conv2d(x, weight, bias), mean, var, gamma, beta, False, 0.0, 1e-5)
    grad = torch.randn_like(y)
    expected = torch.autograd.grad(y, leaves, grad)

    norm = FrozenNorm(mean, var, gamma.detach(), beta.detach(), 1e-5)
    plain = weight.detach()
    folded = fold_weight(plain, norm.scale()).requires_grad_()
    shift = norm.shift(norm.scale(), None if bias is None else bias.detach()).requires_grad_()
    again = F.conv2d(x, folded, shift)
    torch.testing.assert_close(again, y, rtol=1e-12, atol=1e-12)
    grads = torch.autograd.grad(again, (folded, shift), grad)
    needs = (True, with_bias, True, True)
    mine = unfold_grads(*grads, plain, None if bias is None else bias.detach(), norm, needs)
    for one, other in zip([g for g in mine if g is not None], expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
