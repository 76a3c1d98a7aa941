import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tinytl.networks.backbones.inverted_residual import (
    BlockSpec,
    InvertedResidual,
    InvertedResidualNet,
    SamePadConv2d,
    conv_norm_act,
)

# TensorFlow's SAME padding by hand: (size, kernel, stride) -> (before, after)
SAME_PADDING = {
    (8, 3, 1): (1, 1),
    (9, 3, 1): (1, 1),
    (8, 3, 2): (0, 1),
    (9, 3, 2): (1, 1),
    (8, 5, 2): (1, 2),
    (9, 5, 2): (2, 2),
    (7, 5, 1): (2, 2),
    (2, 5, 2): (1, 2),
    (1, 3, 2): (1, 1),
    (8, 1, 2): (0, 0),
    (9, 2, 3): (0, 0),
    (10, 3, 3): (1, 1),
}


@pytest.mark.parametrize(("size", "kernel", "stride"), SAME_PADDING)
@pytest.mark.parametrize("width", [8, 9])
def test_same_padding(size: int, kernel: int, stride: int, width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    conv = SamePadConv2d(4, 4, kernel, stride, groups=2)
    x = torch.randn(2, 4, size, width, generator=generator)
    top, bottom = SAME_PADDING[size, kernel, stride]
    out_width = -(-width // stride)
    total = max((out_width - 1) * stride + kernel - width, 0)
    padded = F.pad(x, (total // 2, total - total // 2, top, bottom))
    expected = F.conv2d(padded, conv.weight, conv.bias, stride, 0, 1, 2)
    out = conv(x)
    assert out.shape[2:] == (-(-size // stride), out_width)
    assert torch.allclose(out, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("in_channels", "spec", "shortcut"),
    [
        (16, BlockSpec(16, 3, 1, 6), True),
        (16, BlockSpec(24, 3, 1, 6), False),
        (16, BlockSpec(16, 5, 2, 6), False),
        (16, BlockSpec(16, 7, 1, 1), True),
    ],
)
@pytest.mark.parametrize("same_pad", [False, True])
def test_inverted_residual(in_channels: int, spec: BlockSpec, shortcut: bool, same_pad: bool) -> None:
    block = InvertedResidual(in_channels, spec, norm_eps=1e-3, same_pad=same_pad).eval()
    x = torch.randn(2, in_channels, 9, 9, generator=torch.Generator().manual_seed(0))
    out = block(x)
    side = -(-9 // spec.stride)
    assert out.shape == (2, spec.out_channels, side, side)
    assert block.use_res_connect == shortcut
    assert torch.equal(out, x + block.conv(x) if shortcut else block.conv(x))
    convolutions = [m for m in block.modules() if isinstance(m, nn.Conv2d)]
    hidden = in_channels * spec.expand_ratio
    shapes = [
        (hidden, in_channels, 1, 1),
        (hidden, 1, spec.kernel_size, spec.kernel_size),
        (spec.out_channels, hidden, 1, 1),
    ]
    assert [tuple(c.weight.shape) for c in convolutions] == shapes[0 if spec.expand_ratio > 1 else 1 :]
    assert isinstance(convolutions[-2], SamePadConv2d) == (same_pad and spec.stride > 1)


def test_conv_norm_act() -> None:
    conv, norm, act = conv_norm_act(3, 8, 5, 2, norm_eps=1e-3)
    assert (conv.kernel_size, conv.stride, conv.padding, conv.bias) == ((5, 5), (2, 2), (2, 2), None)
    assert norm.eps == 1e-3
    assert isinstance(act, nn.ReLU6) and act.inplace


def test_net_of_one_block() -> None:
    net = InvertedResidualNet(
        [BlockSpec(16, 3, 2, 1)], stem_channels=8, last_channels=32, num_classes=5, norm_eps=1e-3
    ).eval()
    assert net(torch.zeros(2, 3, 17, 17)).shape == (2, 5)
    assert len(net.features) == 3
    assert {m.eps for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}
    expected = 3 * 8 * 9 + 16 + (8 * 9 + 16 + 8 * 16 + 32) + 16 * 32 + 64 + 32 * 5 + 5
    assert sum(p.numel() for p in net.parameters()) == expected
