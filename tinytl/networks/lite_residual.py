"""Lite residual modules: beside a block, a cheap branch at lower resolution with grouped convolution.

Source: TinyTL, Cai et al. 2020, section 3.2; mit-han-lab/tinyml `tinytl/model/modules.py`.
"""

import math
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from tinytl.config.names import REFERENCE_RESOLUTION, UPSAMPLE_TYPES
from tinytl.errors import ConfigError, choose
from tinytl.networks.backbones.sequence import BlockGeometry, SequenceNet
from tinytl.networks.upsample import Mode, upsample

CHANNEL_DIVISOR = 8


class ExactHardsigmoid(nn.Hardsigmoid):
    """relu6(x + 3) / 6. The gradient of torch's own is 1/6 rounded to float32, in float64 too."""

    def forward(self, input: Tensor) -> Tensor:
        """Returns new memory, of the input's shape."""
        return F.relu6(input + 3, inplace=True) / 6


ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": lambda: nn.ReLU6(inplace=True),
    "h_swish": lambda: nn.Hardswish(inplace=True),
    "h_sigmoid": ExactHardsigmoid,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "none": nn.Identity,
}
"""The constructor of each `act_func`. Source: once-for-all `ofa/utils/pytorch_modules.py`."""


class AvgPoolWithinMap(nn.AvgPool2d):
    """Average pooling `(N, C, H, W)` whose window is never larger than the map."""

    def forward(self, input: Tensor) -> Tensor:
        """Pools by the window, or by the map's shorter side if that is smaller."""
        return F.avg_pool2d(input, min(self.kernel_size, *input.shape[2:]))


class LiteResidualModule(nn.Module):
    """`main_branch(x)` plus a lite branch: pool, grouped convolution, norm, activation, 1x1, norm, upsample.

    Input `(N, in_channels, H, W)`, output `(N, out_channels, H', W')` like the main branch. The last norm
    starts at zero, so at first the module equals its main branch.

    Args:
        main_branch: the block beside the branch.
        in_channels: channels of the input.
        out_channels: channels of the main branch's output.
        expand: width of the branch relative to its input, rounded to a multiple of 8.
        kernel_size: kernel of the grouped convolution, odd.
        act_func: `relu`, `relu6`, `h_swish`, `h_sigmoid`, `tanh`, `sigmoid` or `none`.
        n_groups: groups of the convolution; must divide the input's and the branch's width.
        downsample_ratio: average pooling before the convolution; None pools the whole map, with kernel 1 and
            no upsampling (the branch's one pixel is added everywhere).
        upsample_type: `bilinear`, `nearest` or `bicubic`.
        stride: the main branch's stride, carried by the convolution.

    Raises:
        ConfigError: if `n_groups` does not divide a width, or a name is unknown.
    """

    def __init__(
        self,
        main_branch: nn.Module,
        in_channels: int,
        out_channels: int,
        expand: float = 1.0,
        kernel_size: int = 3,
        act_func: str = "relu",
        n_groups: int = 2,
        downsample_ratio: int | None = 2,
        upsample_type: str = "bilinear",
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.lite_residual_config = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "expand": expand,
            "kernel_size": kernel_size,
            "act_func": act_func,
            "n_groups": n_groups,
            "downsample_ratio": downsample_ratio,
            "upsample_type": upsample_type,
            "stride": stride,
        }
        """What it was made with."""
        self.main_branch = main_branch
        self.downsample_ratio = downsample_ratio
        self.upsample_type = cast(Mode, choose("upsample_type", upsample_type, UPSAMPLE_TYPES))
        activation = ACTIVATIONS[choose("act_func", act_func, ACTIVATIONS)]
        width = _width(in_channels, expand)
        check_n_groups(n_groups, in_channels, width, "the lite residual")
        pooling: nn.Module
        if downsample_ratio is None:
            kernel_size, pooling = 1, nn.AdaptiveAvgPool2d(1)
        else:
            pooling = AvgPoolWithinMap(downsample_ratio)
        conv1 = nn.Conv2d(
            in_channels, width, kernel_size, stride, kernel_size // 2, groups=n_groups, bias=False
        )
        conv2 = nn.Conv2d(width, out_channels, 1, bias=False)
        final_bn = nn.BatchNorm2d(out_channels)
        layers = OrderedDict(
            pooling=pooling,
            conv1=conv1,
            bn1=nn.BatchNorm2d(width),
            act=activation(),
            conv2=conv2,
            final_bn=final_bn,
        )
        self.lite_residual = nn.Sequential(layers)
        for conv in (conv1, conv2):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(final_bn.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Adds the lite branch, at the main branch's size."""
        main = self.main_branch(x)
        lite = self.lite_residual(x)
        if self.downsample_ratio is not None:
            lite = upsample(lite, (main.shape[2], main.shape[3]), self.upsample_type)
        return main + lite

    @staticmethod
    def insert_lite_residual(
        net: nn.Module,
        downsample_ratio: int | None = 2,
        upsample_type: str = "bilinear",
        expand: float = 1.0,
        max_kernel_size: int = 3,
        act_func: str = "relu",
        n_groups: int = 2,
        **kwargs: Any,
    ) -> list[str]:
        """Does what the function of this name does; it warns of `kwargs` other than `resolution`."""
        resolution = kwargs.pop("resolution", None)
        if kwargs:
            warnings.warn(f"insert_lite_residual has no use for {', '.join(kwargs)}", stacklevel=2)
        return insert_lite_residual(
            net,
            downsample_ratio,
            upsample_type,
            expand,
            max_kernel_size,
            act_func,
            n_groups,
            resolution=resolution,
        )


def insert_lite_residual(
    net: nn.Module,
    downsample_ratio: int | None = 2,
    upsample_type: str = "bilinear",
    expand: float = 1.0,
    max_kernel_size: int = 3,
    act_func: str = "relu",
    n_groups: int = 2,
    *,
    resolution: int | None = None,
) -> list[str]:
    """Wraps every block of `net.features` but the first in a LiteResidualModule, in place.

    The kernel shrinks if the pooled map is smaller; if the map cannot be pooled by the ratio, the branch
    pools all of it. `resolution` (pixels of the network's input) gives the maps' real sizes; without it the
    reference's rule applies, which counts down from a map of 128 for any image.

    Returns:
        The names of the wrapped blocks. A net that already has lite residuals is left unchanged.

    Raises:
        ConfigError: if `n_groups` does not divide a block's widths, naming the block, or if `net.features`
            has no blocks.
    """
    if any(isinstance(module, LiteResidualModule) for module in net.modules()):
        return []
    check_groups_of_net(net, n_groups, expand)
    size = REFERENCE_RESOLUTION
    wrapped: list[str] = []
    blocks = geometry_of(net)
    features = cast(nn.Sequential, net.features)
    if resolution is not None and len(blocks) > 1:
        size = math.ceil(resolution / blocks[1].scale)
    for index, in_channels, out_channels, stride, _ in blocks[1:]:
        ratio, kernel_size = _fit(size, downsample_ratio, max_kernel_size)
        features[index] = LiteResidualModule(
            features[index],
            in_channels,
            out_channels,
            expand,
            kernel_size,
            act_func,
            n_groups,
            ratio,
            upsample_type,
            stride,
        )
        wrapped.append(f"features.{index}")
        size = -(-size // stride)
    return wrapped


def make_divisible(value: float, divisor: int) -> int:
    """Rounds to a multiple of `divisor`, never more than 10 % below `value`. Source: MobileNetV2."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def check_groups_of_net(net: nn.Module, n_groups: int, expand: float) -> None:
    """Raises ConfigError if `n_groups` does not divide a width of a lite residual in a plain `net`."""
    for index, in_channels, *_ in geometry_of(net)[1:]:
        check_n_groups(n_groups, in_channels, _width(in_channels, expand), f"features.{index}")


def check_n_groups(n_groups: int, in_channels: int, width: int, place: str) -> None:
    """Raises ConfigError if `n_groups` does not divide both widths of a lite branch."""
    for what, channels in (("input", in_channels), ("lite residual", width)):
        if channels % n_groups:
            raise ConfigError(
                f"n_groups={n_groups} does not divide the {channels} {what} channels of {place}"
            )


def _fit(size: int, downsample_ratio: int | None, kernel_size: int) -> tuple[int | None, int]:
    """Returns pooling and kernel for a map of `size` pixels."""
    pooled = 1 if downsample_ratio is None else max(1, size // downsample_ratio)
    if pooled == 1:
        return None, 1
    while kernel_size > pooled:
        kernel_size -= 2
    return downsample_ratio, max(1, kernel_size)


def _width(in_channels: int, expand: float) -> int:
    return make_divisible(int(in_channels * expand), CHANNEL_DIVISOR)


def geometry_of(net: nn.Module) -> list[BlockGeometry]:
    """Returns the blocks of `net.features`, and what each makes of its map.

    Raises:
        ConfigError: if it has none.
    """
    if isinstance(net, SequenceNet):
        return list(net.blocks)
    features = getattr(net, "features", None)
    children = list(features) if isinstance(features, nn.Sequential) else []
    places = [place for place, module in enumerate(children) if _is_inverted_residual(module)]
    if not places:
        raise ConfigError(
            f"lite residuals stand beside the inverted residuals of `net.features`, as in MobileNetV2: this "
            f"{type(net).__name__} has none"
        )
    found: list[BlockGeometry] = []
    scale = 2  # of the stem; every convolution here pads, so sizes round up
    for place in places:
        convs = [module for module in children[place].modules() if isinstance(module, nn.Conv2d)]
        stride = max(conv.stride[0] for conv in convs)
        found.append(BlockGeometry(place, convs[0].in_channels, convs[-1].out_channels, stride, scale))
        scale *= stride
    return found


def _is_inverted_residual(module: nn.Module) -> bool:
    return hasattr(module, "use_res_connect") and isinstance(getattr(module, "conv", None), nn.Sequential)
