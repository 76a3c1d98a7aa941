"""One small builder for networks of inverted residuals, with torchvision's structure and names.

Every network here is `features` (stem, blocks, last convolution), a global mean, and `classifier`
(dropout, linear), so that surgery, parameter groups and memory tools treat torchvision's MobileNetV2
and ours alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class BlockSpec:
    """One inverted residual: width of its output, kernel, stride, and expansion of its input's width."""

    out_channels: int
    kernel_size: int
    stride: int
    expand_ratio: int


class SamePadConv2d(nn.Conv2d):
    """Convolution padded as TensorFlow does: with stride 2, the odd pixel is added right and below.

    Input `(N, C, H, W)`, output `(N, C', ceil(H / stride), ceil(W / stride))`. `padding` of the
    constructor is ignored.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Pads by the map's size, then convolves; `forward` calls this."""
        pad = [0, 0, 0, 0]
        for axis, (kernel, stride) in enumerate(zip(self.kernel_size, self.stride, strict=True)):
            size = input.shape[2 + axis]
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pad[2 - 2 * axis : 4 - 2 * axis] = total // 2, total - total // 2
        if pad[0] == pad[1] and pad[2] == pad[3]:
            padding = (pad[2], pad[0])
        else:
            input, padding = F.pad(input, pad), (0, 0)
        return F.conv2d(input, weight, bias, self.stride, padding, self.dilation, self.groups)


class InvertedResidual(nn.Module):
    """Expand (1x1), depthwise (kxk), project (1x1, linear); a shortcut if shapes allow.

    Input `(N, C, H, W)`, output `(N, out_channels, ceil(H / stride), ceil(W / stride))`. Attributes carry
    the names of torchvision's class of the same name. Source: MobileNetV2, Sandler et al. 2018, section 3.
    """

    def __init__(self, in_channels: int, spec: BlockSpec, norm_eps: float, same_pad: bool) -> None:
        super().__init__()
        self.stride = spec.stride
        self.out_channels = spec.out_channels
        self.use_res_connect = spec.stride == 1 and in_channels == spec.out_channels
        hidden = in_channels * spec.expand_ratio
        layers: list[nn.Module] = []
        if spec.expand_ratio != 1:
            layers.append(conv_norm_act(in_channels, hidden, 1, norm_eps=norm_eps))
        layers += [
            conv_norm_act(
                hidden, hidden, spec.kernel_size, spec.stride, hidden, norm_eps=norm_eps, same_pad=same_pad
            ),
            nn.Conv2d(hidden, spec.out_channels, 1, bias=False),
            nn.BatchNorm2d(spec.out_channels, eps=norm_eps),
        ]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Adds the shortcut if the block has one."""
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class InvertedResidualNet(nn.Module):
    """Stem (3x3, stride 2), inverted residuals, last 1x1 convolution, global mean, classifier.

    Input `(N, 3, H, W)`, output logits `(N, num_classes)`. ReLU6 throughout.
    """

    def __init__(
        self,
        blocks: Sequence[BlockSpec],
        *,
        stem_channels: int = 32,
        last_channels: int = 1280,
        num_classes: int = 1000,
        norm_eps: float = 1e-5,
        same_pad: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            conv_norm_act(3, stem_channels, 3, 2, norm_eps=norm_eps, same_pad=same_pad)
        ]
        channels = stem_channels
        for spec in blocks:
            layers.append(InvertedResidual(channels, spec, norm_eps, same_pad))
            channels = spec.out_channels
        layers.append(conv_norm_act(channels, last_channels, 1, norm_eps=norm_eps))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last_channels, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits."""
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(self.features(x), 1), 1))


def conv_norm_act(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    groups: int = 1,
    *,
    norm_eps: float = 1e-5,
    same_pad: bool = False,
) -> nn.Sequential:
    """Returns convolution, batch norm and ReLU6 (in place) as one module, as in torchvision."""
    padding = (kernel_size - 1) // 2
    layer = nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels, eps=norm_eps),
        nn.ReLU6(inplace=True),
    )
    if same_pad and stride > 1:
        layer[0] = SamePadConv2d(in_channels, out_channels, kernel_size, stride, groups=groups, bias=False)
    return layer


def is_inverted_residual(module: nn.Module) -> bool:
    """Whether `module` is an inverted residual of ours, of torchvision or timm, or inherits from one.

    Their classes are known by name: a package is imported only if one of its networks is asked for.
    """
    return any(base is InvertedResidual or full_name(base) in _BY_NAME for base in type(module).__mro__)


def is_gate(module: nn.Module) -> bool:
    """Whether `module` is a squeeze-excite of torchvision or timm: a factor per channel of the whole map."""
    return any(full_name(base) in _GATES for base in type(module).__mro__)


def full_name(cls: type) -> str:
    """Returns a class's name with its module's."""
    return f"{cls.__module__}.{cls.__qualname__}"


_BY_NAME = (
    "torchvision.models.mobilenetv2.InvertedResidual",
    "torchvision.models.mobilenetv3.InvertedResidual",
    "torchvision.models.efficientnet.MBConv",
    "torchvision.models.mnasnet._InvertedResidual",
    "timm.models._efficientnet_blocks.DepthwiseSeparableConv",
    "timm.models._efficientnet_blocks.InvertedResidual",
)
_GATES = (
    "torchvision.ops.misc.SqueezeExcitation",
    "timm.models._efficientnet_blocks.SqueezeExcite",
    "timm.layers.squeeze_excite.SEModule",
)
