import pytest
import torch
import torch.nn.functional as F

from tinytl.memory_efficient.ops.any_convolution import AnyConvSpec, lean_any_conv

STOCK = {
    ("plain", 1): F.conv1d,
    ("plain", 2): F.conv2d,
    ("plain", 3): F.conv3d,
    ("transposed", 1): F.conv_transpose1d,
    ("transposed", 2): F.conv_transpose2d,
    ("transposed", 3): F.conv_transpose3d,
}
SETTINGS = {  # stride, padding, dilation, groups, output padding
    "plain": (1, 0, 1, 1, 0),
    "strided": (2, 1, 1, 1, 1),
    "three": (3, 2, 1, 2, 2),
    "dilated": (2, 2, 2, 2, 0),
}


def case(kind, dims, setting, size=6):
    stride, padding, dilation, groups, added = SETTINGS[setting]
    every = dict(stride=(stride,) * dims, padding=(padding,) * dims, dilation=(dilation,) * dims)
    more = {"output_padding": (added,) * dims} if kind == "transposed" else {}
    spec = AnyConvSpec(**every, groups=groups, **more)
    x = torch.randn(2, 4, *(size + i for i in range(dims)), dtype=torch.float64)
    shape = (4, 6 // groups) if kind == "transposed" else (6, 4 // groups)
    weight = torch.randn(*shape, *(3,) * dims, dtype=torch.float64)
    stock = lambda x, w, b: STOCK[kind, dims](x, w, b, **every, groups=groups, **more)  # noqa: E731
    return spec, stock, [x, weight, torch.randn(6, dtype=torch.float64)]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(("kind", "dims"), STOCK)
def test_equals_stock(assert_same, kind, dims, setting):
    spec, stock, inputs = case(kind, dims, setting)
    for wants in ((1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 0, 0)):
        leaves = [t.clone().requires_grad_(bool(want)) for t, want in zip(inputs, wants, strict=True)]
        assert_same(lambda *row: lean_any_conv(*row, spec), stock, leaves)
    without = [inputs[0].clone().requires_grad_(), inputs[1].clone().requires_grad_(), None]
    assert_same(lambda *row: lean_any_conv(*row, spec), stock, without)


@pytest.mark.parametrize(("kind", "dims"), STOCK)
def test_every_type_and_layout(assert_same, kind, dims):
    spec, stock, inputs = case(kind, dims, "strided")
    last = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d}[dims]
    for dtype in (torch.float32, torch.bfloat16):
        for form in (torch.contiguous_format, last):
            leaves = [t.to(dtype) for t in inputs]
            leaves[0] = leaves[0].contiguous(memory_format=form)
            leaves = [t.requires_grad_() for t in leaves]
            assert_same(lambda *row: lean_any_conv(*row, spec), stock, leaves)


@pytest.mark.parametrize(("kind", "dims"), STOCK)
def test_the_input_is_kept_only_for_the_weight(kept_bytes, kind, dims):
    spec, stock, (x, weight, bias) = case(kind, dims, "strided")
    for wants_weight in (False, True):
        leaves = [x.clone().requires_grad_() * 1, weight.clone().requires_grad_(wants_weight), bias]
        kept = kept_bytes(lambda leaves=leaves: lean_any_conv(*leaves, spec), leaves[1:])
        assert kept == (x.nbytes if wants_weight else 0)
        assert kept_bytes(lambda leaves=leaves: stock(*leaves), leaves[1:]) >= x.nbytes


@pytest.mark.parametrize(("kind", "dims"), STOCK)
def test_harms_nobody(assert_harms_nobody, kind, dims):
    spec, stock, inputs = case(kind, dims, "three")
    leaves = [t.requires_grad_() for t in inputs]
    assert_harms_nobody(lambda *row: lean_any_conv(*row, spec), stock, leaves)


def test_autocast_computes_in_its_type():
    spec, stock, (x, weight, bias) = case("transposed", 2, "strided")
    x, weight = x.float().requires_grad_(), weight.float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mine, theirs = lean_any_conv(x, weight, bias.float(), spec), stock(x, weight, bias.float())
    assert mine.dtype is theirs.dtype is torch.bfloat16
    torch.testing.assert_close(mine, theirs, rtol=0.02, atol=0.02)
    grads = [torch.autograd.grad(y.float().square().sum(), (x, weight)) for y in (mine, theirs)]
    for one, other in zip(*grads, strict=True):
        assert one.dtype is torch.float32
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.02 * float(other.abs().max()))
