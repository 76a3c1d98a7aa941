import itertools

import pytest
import torch
import torch.nn.functional as F

from tinytl.memory_efficient.ops import group_norm
from tinytl.memory_efficient.ops.group_norm import lean_group_norm
from tinytl.networks.group_norm import group_norm as stock_group_norm

ACTIVATE = {"none": lambda t: t, "relu": F.relu, "relu6": F.relu6, "hardswish": F.hardswish}


def stock(n_groups, activation):
    return lambda x, gamma, beta: ACTIVATE[activation](stock_group_norm(x, n_groups, gamma, beta))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("activation", ACTIVATE)
@pytest.mark.parametrize("n_groups", [1, 2, 6])
def test_equals_stock_over_every_pattern(assert_same, n_groups, activation, dtype, layout):
    x = torch.randn(3, 6, 5, 4).to(dtype).contiguous(memory_format=layout)
    gamma, beta = torch.randn(6).to(dtype), torch.randn(6).to(dtype)
    for pattern in itertools.product((False, True), repeat=3):
        for tensor, wants in zip((x, gamma, beta), pattern, strict=True):
            tensor.requires_grad_(wants)
        assert_same(
            lambda *t: lean_group_norm(*t, n_groups, 1e-5, activation),
            stock(n_groups, activation),
            [x, gamma, beta],
        )
    assert_same(
        lambda *t: lean_group_norm(*t, n_groups, 1e-5, activation),
        stock(n_groups, activation),
        [x, None, None],
    )


@pytest.mark.parametrize("activation", ACTIVATE)
def test_gradcheck(activation):
    made = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((2, 4, 3, 2), (4,), (4,))]
    assert torch.autograd.gradcheck(lambda *t: lean_group_norm(*t, 2, 1e-5, activation), made)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("activation", ACTIVATE)
def test_harms_nobody(assert_harms_nobody, activation, layout):
    x = torch.randn(3, 6, 5, 4, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    gamma, beta = (torch.randn(6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    lean = lambda *t: lean_group_norm(*t, 2, 1e-5, activation)  # noqa: E731
    assert_harms_nobody(lean, stock(2, activation), [x, gamma, beta])


def test_sums_equal_the_kernel():
    """What runs where torch has no channels_last kernel, checked against the one for CPUs."""
    x, grad = (torch.randn(3, 6, 5, 4, dtype=torch.float64) for _ in range(2))
    gamma = torch.randn(6, dtype=torch.float64)
    expected, stats = group_norm.normalise(x, gamma, None, 3, 1e-5)
    made, own = group_norm._normalise_by_sums(x, gamma, None, 3, 1e-5)
    for one, other in zip((made, *own), (expected, *stats), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    by_kernel = group_norm.normalise_grads(grad, x, gamma, stats, (True, True, True))
    by_sums = group_norm._grads_by_sums(grad, x, gamma, stats, (True, True, True))
    for one, other in zip(by_sums, by_kernel, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    no_gamma = group_norm._grads_by_sums(grad, x, None, stats, (True, False, False))
    expected = group_norm.normalise_grads(grad, x, None, stats, (True, False, False))
    torch.testing.assert_close(no_gamma.x, expected.x, rtol=1e-10, atol=1e-12)


def test_keeps_the_input_and_statistics_only(kept_bytes):
    x = torch.randn(3, 6, 5, 4, requires_grad=True)
    gamma, beta = torch.randn(6), torch.randn(6)
    kept = kept_bytes(lambda: lean_group_norm(x, gamma, beta, 2, 1e-5, "relu6"), [x, gamma, beta])
    assert kept == 2 * 3 * 2 * 4
