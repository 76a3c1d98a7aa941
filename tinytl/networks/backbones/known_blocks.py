"""Classes of residual blocks of torchvision and timm, by name: neither is imported before it is asked for.

Each maps `(N, C, H, W)` to `(N, C', H', W')`, sample by sample but for batch norm in training mode, and does
not edit its input.
"""

from torch import nn

from tinytl.networks.backbones.inverted_residual import full_name


def is_known_block(cls: type[nn.Module]) -> bool:
    """Whether a class is one of these blocks."""
    return full_name(cls) in KNOWN


KNOWN = frozenset(
    [f"torchvision.models.{name}" for name in (
        "convnext.CNBlock",
        "efficientnet.FusedMBConv",
        "efficientnet.MBConv",
        "mnasnet._InvertedResidual",
        "mobilenetv2.InvertedResidual",
        "mobilenetv3.InvertedResidual",
        "regnet.ResBottleneckBlock",
        "resnet.BasicBlock",
        "resnet.Bottleneck",
        "shufflenetv2.InvertedResidual",
        "squeezenet.Fire",
    )]
    + [f"timm.models.{name}" for name in (
        "_efficientnet_blocks.DepthwiseSeparableConv",
        "_efficientnet_blocks.EdgeResidual",
        "_efficientnet_blocks.InvertedResidual",
        "_efficientnet_blocks.UniversalInvertedResidual",
        "byobnet.MobileOneBlock",
        "byobnet.RepVggBlock",
        "convnext.ConvNeXtBlock",
        "ghostnet.GhostBottleneck",
        "regnet.Bottleneck",
        "resnet.BasicBlock",
        "resnet.Bottleneck",
    )]
)  # fmt: skip
