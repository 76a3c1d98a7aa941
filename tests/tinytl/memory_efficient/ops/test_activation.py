import pytest
import torch
import torch.nn.functional as F

from tinytl.memory_efficient.ops.activation import lean_activation, lean_leaky_relu

STOCK = {
    "relu": F.relu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "exact_hardsigmoid": lambda x: F.relu6(x + 3) / 6,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": F.silu,
}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", STOCK)
def test_equals_stock(assert_same, name, dtype, layout):
    x = (torch.randn(2, 5, 7, 3) * 4).to(dtype).contiguous(memory_format=layout)
    for wants in (True, False):
        x.requires_grad_(wants)
        assert_same(lambda t: lean_activation(t, name), STOCK[name], [x])
        assert_same(lambda t: lean_activation(t * 1, name, inplace=True), STOCK[name], [x])


def test_takes_other_shapes_and_gaps(assert_same):
    assert_same(lambda t: lean_activation(t, "relu6"), F.relu6, [torch.randn(3, 10, requires_grad=True)])
    wide = torch.randn(3, 10, requires_grad=True)
    assert_same(lambda t: lean_activation(t[:, ::2], "relu"), lambda t: F.relu(t[:, ::2]), [wide])
    assert_same(
        lambda t: lean_activation((t * 1)[:, ::2], "relu", inplace=True), lambda t: F.relu(t[:, ::2]), [wide]
    )


def test_leaves_the_input_alone_unless_told():
    x = torch.randn(4, 5, requires_grad=True)
    before = x.detach().clone()
    lean_activation(x, "relu6")
    assert torch.equal(x, before)
    y = x * 1
    assert lean_activation(y, "relu6", inplace=True) is y


@pytest.mark.parametrize("name", STOCK)
def test_gradcheck(name):
    x = torch.linspace(-4.1, 7.3, 20, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: lean_activation(t, name), (x,))


@pytest.mark.parametrize("name", STOCK)
@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (4, 6)])
def test_harms_nobody(assert_harms_nobody, name, shape):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    for inplace in (False, True):
        lean = lambda t, inplace=inplace: lean_activation(t * 3, name, inplace)  # noqa: E731
        assert_harms_nobody(lean, lambda t: STOCK[name](t * 3), [x])


@pytest.mark.parametrize("name", STOCK)
def test_retained_gradient_is_intact(name):
    grads = []
    for activate in (lambda t: lean_activation(t, name), STOCK[name]):
        x = (torch.arange(-10, 30, dtype=torch.float64) / 3).requires_grad_()
        middle = activate(x * 2)
        last = middle + x
        middle.retain_grad()
        last.retain_grad()
        (last * torch.arange(40)).sum().backward()
        grads.append((middle.grad, last.grad, x.grad))
    for mine, theirs in zip(*grads, strict=True):
        assert torch.equal(mine, theirs)


def test_keeps_one_bit_an_element(kept_bytes):
    x = torch.randn(4, 8, 16, 16, requires_grad=True)
    assert kept_bytes(lambda: lean_activation(x, "relu6"), []) == x.numel() // 8
    assert kept_bytes(lambda: lean_activation(x, "relu"), []) == x.numel() // 8
    for name in STOCK.keys() - {"relu", "relu6"}:
        assert kept_bytes(lambda name=name: lean_activation(x, name), [x]) == 0


def leaky(slope, inplace=False):
    return lambda t: lean_leaky_relu(t * 1, slope, inplace)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("slope", [0.01, 0.3, 1.5])
def test_leaky_relu_equals_stock(assert_same, slope, dtype, layout):
    x = (torch.randn(2, 5, 7, 3) * 4).to(dtype).contiguous(memory_format=layout)
    for wants in (True, False):
        x.requires_grad_(wants)
        for inplace in (False, True):
            assert_same(leaky(slope, inplace), lambda t: F.leaky_relu(t, slope), [x])
    wide = torch.randn(3, 10, requires_grad=True)
    assert_same(lambda t: leaky(slope)(t[:, ::2]), lambda t: F.leaky_relu(t[:, ::2], slope), [wide])


@pytest.mark.parametrize("inplace", [False, True])
def test_leaky_relu_harms_nobody_and_keeps_bits(assert_harms_nobody, kept_bytes, inplace):
    x = torch.randn(2, 5, 7, 3, dtype=torch.float64, requires_grad=True)
    assert_harms_nobody(leaky(0.2, inplace), lambda t: F.leaky_relu(t * 1, 0.2), [x])
    assert kept_bytes(lambda: leaky(0.2, inplace)(x), [x]) == -(-x.numel() // 8)
    y = x * 1
    assert lean_leaky_relu(y, 0.2, inplace=True) is y
