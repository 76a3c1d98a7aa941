import itertools

import pytest
import torch
import torch.nn.functional as F

from tinytl.memory_efficient.ops.convolution import ConvSpec, lean_conv2d
from tinytl.networks.backbones.inverted_residual import SamePadConv2d

# in, out, kernel, and the spec
CASES = [
    (4, 6, (1, 1), ConvSpec()),
    (4, 6, (1, 1), ConvSpec(stride=(2, 2))),
    (4, 6, (1, 1), ConvSpec(padding=(1, 2))),
    (4, 6, (1, 1), ConvSpec(groups=2)),
    (4, 6, (3, 3), ConvSpec(padding=(1, 1))),
    (4, 6, (3, 3), ConvSpec()),
    (4, 6, (3, 3), ConvSpec(padding=(3, 4))),
    (4, 6, (3, 3), ConvSpec(stride=(2, 2), padding=(1, 1))),
    (4, 6, (3, 5), ConvSpec(stride=(2, 3), padding=(0, 2), dilation=(2, 1), groups=2)),
    (4, 6, (3, 3), ConvSpec(stride=(3, 3), padding=(2, 2), dilation=(2, 2))),
    (4, 6, (2, 4), ConvSpec(padding=(1, 0))),
    (4, 6, (1, 1), ConvSpec(stride=(2, 3))),
    (4, 6, (1, 1), ConvSpec(stride=(2, 2), groups=2)),
    (4, 8, (3, 3), ConvSpec(padding=(1, 1), groups=4)),
    (6, 6, (3, 3), ConvSpec(padding=(1, 1), groups=6)),
    (6, 6, (5, 5), ConvSpec(stride=(2, 2), padding=(2, 2), groups=6)),
    (6, 6, (3, 3), ConvSpec(padding=(2, 2), dilation=(2, 2), groups=6)),
    (6, 6, (3, 3), ConvSpec(stride=(2, 2), groups=6, same_pad=True)),
    (4, 6, (5, 5), ConvSpec(stride=(2, 2), same_pad=True)),
    (4, 6, (3, 3), ConvSpec(stride=(1, 1), same_pad=True)),
]
PATTERNS = list(itertools.product((False, True), repeat=3))


def stock(spec):
    def run(x, weight, bias):
        padding = spec.padding
        if spec.same_pad:
            left, right, top, bottom = spec.sides(tuple(x.shape[2:]), tuple(weight.shape[2:]))
            x, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
        return F.conv2d(x, weight, bias, spec.stride, padding, spec.dilation, spec.groups)

    return run


def tensors(case, dtype, pattern=(True, True, True), layout=torch.contiguous_format):
    n_in, n_out, kernel, spec = case
    x = torch.randn(2, n_in, 11, 14).to(dtype).contiguous(memory_format=layout)
    weight = torch.randn(n_out, n_in // spec.groups, *kernel).to(dtype)
    made = (x, weight, torch.randn(n_out).to(dtype))
    return [t.requires_grad_(wants) for t, wants in zip(made, pattern, strict=True)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", CASES)
def test_equals_stock_over_every_pattern(assert_same, case, dtype, layout):
    for pattern in PATTERNS:
        x, weight, bias = tensors(case, dtype, pattern, layout)
        for b in (bias, None):
            assert_same(lambda *t: lean_conv2d(*t, case[3]), stock(case[3]), [x, weight, b])


@pytest.mark.parametrize("case", CASES[:1] + CASES[8:10] + CASES[15:16])
def test_gradcheck(case):
    x, weight, bias = tensors(case, torch.float64)
    x = x.detach()[:1, :, :6, :7].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda *t: lean_conv2d(*t, case[3]), (x, weight, bias))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("case", CASES[:2] + CASES[4:5] + CASES[12:13] + CASES[15:16])
def test_harms_nobody(assert_harms_nobody, case, layout):
    made = tensors(case, torch.float64, layout=layout)
    assert_harms_nobody(lambda *t: lean_conv2d(*t, case[3]), stock(case[3]), made)


def test_bfloat16(assert_same):
    assert_same(
        lambda *t: lean_conv2d(*t, CASES[4][3]), stock(CASES[4][3]), tensors(CASES[4], torch.bfloat16)
    )


def test_a_strided_pointwise_convolution_of_images_trains():
    """Torch's own kernel ends the process here."""
    x = torch.randn(2, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(48, 3, 1, 1).contiguous(memory_format=torch.channels_last).requires_grad_()
    grad = torch.randn(2, 48, 112, 112).contiguous(memory_format=torch.channels_last)
    lean_conv2d(x, weight, None, ConvSpec(stride=(2, 2))).backward(grad)
    expected = torch.einsum("nohw,nihw->oi", grad, x[:, :, ::2, ::2])
    torch.testing.assert_close(weight.grad[:, :, 0, 0], expected, rtol=1e-4, atol=1e-3)


def test_same_pad_is_the_backbones_own():
    for size, kernel, stride in itertools.product((11, 12), (3, 5), (1, 2)):
        conv = SamePadConv2d(2, 3, kernel, stride)
        x = torch.randn(1, 2, size, size + 1)
        mine = lean_conv2d(x, conv.weight, conv.bias, ConvSpec(stride=(stride, stride), same_pad=True))
        torch.testing.assert_close(mine, conv(x))


def test_keeps_the_input_only_where_the_weight_trains(kept_bytes):
    case = CASES[4]
    for pattern, keeps in (
        ((True, False, True), False),
        ((False, True, False), True),
        ((True, True, False), True),
    ):
        x, weight, bias = tensors(case, torch.float32, pattern)
        kept = kept_bytes(lambda t=(x, weight, bias): lean_conv2d(*t, case[3]), [weight])
        assert kept == (x.numel() * 4 if keeps else 0)


def test_nothing_is_recorded_where_nothing_trains():
    x, weight, bias = tensors(CASES[0], torch.float32, (False, False, False))
    assert lean_conv2d(x, weight, bias, ConvSpec()).grad_fn is None


def test_matrix_product_is_the_convolution(assert_same):
    x = torch.randn(3, 24, 9, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    for width in (8, 24, 56):
        weight = (torch.randn(width, 24, 1, 1) / 5).requires_grad_()
        bias = torch.randn(width, requires_grad=True)
        assert_same(lambda *t: lean_conv2d(*t, ConvSpec()), stock(ConvSpec()), [x, weight, bias])
