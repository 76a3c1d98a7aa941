from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from tinytl.networks.backbones import BACKBONES, proxylessnas_mobile


def test_parameters_and_output() -> None:
    net = proxylessnas_mobile.build().eval()
    assert sum(p.numel() for p in net.parameters()) == 4_080_512
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 1000)


def test_kernels_and_strides_of_the_published_network() -> None:
    blocks = [m for m in proxylessnas_mobile.build().get_submodule("features") if hasattr(m, "conv")]
    depthwise = [conv for b in blocks for conv in b.modules() if getattr(conv, "groups", 1) > 1]
    assert [conv.kernel_size[0] for conv in depthwise] == [
        *[3],
        *[5, 3],
        *[7, 3, 5, 5],
        *[7, 5, 5, 5],
        *[5, 5, 5, 5],
        *[7, 7, 7, 7],
        *[7],
    ]
    assert [i for i, conv in enumerate(depthwise) if conv.stride == (2, 2)] == [1, 3, 7, 15]


def test_norms_have_the_published_epsilon() -> None:
    net = proxylessnas_mobile.build()
    assert {m.eps for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


def test_no_imagenet_weights_are_published() -> None:
    assert BACKBONES["proxylessnas_mobile"].imagenet == {}


# Figure 4 of the paper: width, expansion, kernel, stride; None: a place of the search space left out.
PUBLISHED = [
    *[(16, 1, 3, 1)],
    *[(32, 3, 5, 2), (32, 3, 3, 1), None, None],
    *[(40, 3, 7, 2), (40, 3, 3, 1), (40, 3, 5, 1), (40, 3, 5, 1)],
    *[(80, 6, 7, 2), (80, 3, 5, 1), (80, 3, 5, 1), (80, 3, 5, 1)],
    *[(96, 6, 5, 1), (96, 3, 5, 1), (96, 3, 5, 1), (96, 3, 5, 1)],
    *[(192, 6, 7, 2), (192, 6, 7, 1), (192, 3, 7, 1), (192, 3, 7, 1)],
    *[(320, 6, 7, 1)],
]


class _AuthorsBlock(nn.Module):
    """A block under the names of the authors' code; `conv_name` is that of its only child with parameters."""

    def __init__(self, in_channels: int, spec: tuple[int, int, int, int], conv_name: str, lite: bool) -> None:
        super().__init__()
        width, expand, kernel, stride = spec
        hidden = in_channels * expand
        parts = OrderedDict[str, nn.Module]()
        if expand != 1:
            parts["inverted_bottleneck"] = _conv_bn(in_channels, hidden, 1, act=True)
        parts["depth_conv"] = _conv_bn(hidden, hidden, kernel, stride, hidden, act=True)
        parts["point_linear"] = _conv_bn(hidden, width, 1)
        self.shortcut = stride == 1 and in_channels == width
        self.conv_name = conv_name
        self.add_module(conv_name, nn.Sequential(parts))
        if lite:
            branch = nn.Sequential(OrderedDict(conv1=nn.Conv2d(in_channels, in_channels, 3, bias=False)))
            both = nn.Module()
            both.main_branch, both.lite_residual = self.get_submodule(conv_name), branch
            self.add_module(conv_name, both)

    def forward(self, x: Tensor) -> Tensor:
        conv = self.get_submodule(self.conv_name)
        out = getattr(conv, "main_branch", conv)(x)
        return x + out if self.shortcut else out


def _conv_bn(
    i: int, o: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = False
) -> nn.Sequential:
    conv = nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False)
    layers = OrderedDict[str, nn.Module](conv=conv, bn=nn.BatchNorm2d(o, eps=1e-3))
    return nn.Sequential(layers | {"act": nn.ReLU6()} if act else layers)


class _AuthorsNet(nn.Module):
    def __init__(self, conv_name: str, keep_skipped: bool, lite: bool) -> None:
        super().__init__()
        self.first_conv = _conv_bn(3, 32, 3, 2, act=True)
        channels, blocks = 32, []
        for spec in PUBLISHED:
            if spec is not None:
                blocks.append(_AuthorsBlock(channels, spec, conv_name, lite and bool(blocks)))
                channels = spec[0]
            elif keep_skipped:
                blocks.append(nn.Identity())
        self.blocks = nn.ModuleList(blocks)
        self.feature_mix_layer = _conv_bn(320, 1280, 1, act=True)
        self.classifier = nn.Sequential(OrderedDict(linear=nn.Linear(1280, 1000)))
        for tensor in self.state_dict().values():
            if tensor.is_floating_point() and tensor.dim() == 1:
                tensor.uniform_(0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first_conv(x)
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.feature_mix_layer(x).mean((2, 3)))


@pytest.mark.parametrize("conv_name", ["mobile_inverted_conv", "conv"])
@pytest.mark.parametrize(("keep_skipped", "lite"), [(True, False), (True, True), (False, True)])
def test_the_authors_checkpoint_gives_the_authors_outputs(
    conv_name: str, keep_skipped: bool, lite: bool
) -> None:
    torch.manual_seed(0)
    theirs = _AuthorsNet(conv_name, keep_skipped, lite).eval()
    renamed = proxylessnas_mobile.rename(theirs.state_dict())
    lite_names = {name for name in renamed if ".lite_residual." in name}
    expected = {f"features.{i}.lite_residual.conv1.weight" for i in range(2, 21)}
    assert lite_names == (expected if lite else set())
    ours = proxylessnas_mobile.build().eval()
    ours.load_state_dict({name: value for name, value in renamed.items() if name not in lite_names})
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        out = ours(x)
        assert out.std() > 0 and torch.allclose(out, theirs(x), rtol=1e-4, atol=1e-5 * out.abs().max().item())


def test_a_file_of_lite_residuals_alone() -> None:
    state = _AuthorsNet("conv", keep_skipped=True, lite=True).state_dict()
    lite = {name: value for name, value in state.items() if ".lite_residual." in name}
    assert list(lite)[:3] == [f"blocks.{i}.conv.lite_residual.conv1.weight" for i in (1, 2, 5)]
    assert list(proxylessnas_mobile.rename(lite)) == [
        f"features.{i}.lite_residual.conv1.weight" for i in range(2, 21)
    ]


@pytest.mark.parametrize(
    "name",
    [
        "features.2.conv.1.1.weight",
        "blocks.1.conv.expand_conv.conv.weight",
        "blocks.0.conv.inverted_bottleneck.conv.weight",
        "step",
    ],
)
def test_other_names_stay(name: str) -> None:
    assert list(proxylessnas_mobile.rename({name: torch.ones(1)})) == [name]
