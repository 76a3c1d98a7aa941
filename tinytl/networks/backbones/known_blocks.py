"""Classes of blocks and stems of torchvision, timm and transformers, by name: none is imported before it is
asked for.

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
    + [f"transformers.models.{name}" for name in (
        "convnext.modeling_convnext.ConvNextEmbeddings",
        "convnext.modeling_convnext.ConvNextLayer",
        "convnextv2.modeling_convnextv2.ConvNextV2Embeddings",
        "convnextv2.modeling_convnextv2.ConvNextV2Layer",
        "efficientnet.modeling_efficientnet.EfficientNetBlock",
        "efficientnet.modeling_efficientnet.EfficientNetEmbeddings",
        "mobilenet_v2.modeling_mobilenet_v2.MobileNetV2InvertedResidual",
        "mobilenet_v2.modeling_mobilenet_v2.MobileNetV2Stem",
        "regnet.modeling_regnet.RegNetEmbeddings",
        "regnet.modeling_regnet.RegNetXLayer",
        "regnet.modeling_regnet.RegNetYLayer",
        "resnet.modeling_resnet.ResNetBasicLayer",
        "resnet.modeling_resnet.ResNetBottleNeckLayer",
        "resnet.modeling_resnet.ResNetEmbeddings",
    )]
)  # fmt: skip
