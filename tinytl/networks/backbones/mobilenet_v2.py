"""MobileNetV2 1.0 as torchvision has it (3,504,872 parameters with 1,000 classes), and its weights.

torchvision itself is not imported: it needs 150 MiB and more of a process.
Source: Sandler et al. 2018; torchvision.models.mobilenet_v2, weights IMAGENET1K_V1 and IMAGENET1K_V2.
"""

from pathlib import Path

from torch import Tensor, nn

from tinytl.errors import ConfigError
from tinytl.networks.backbones.inverted_residual import BlockSpec, InvertedResidualNet
from tinytl.networks.backbones.weights_file import checkpoints_folder, fetch_verified, load_tensors

INPUT_MEAN = (0.485, 0.456, 0.406)
INPUT_STD = (0.229, 0.224, 0.225)
_STAGES = (
    # expansion, width, blocks, stride of the first block
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Source: Sandler et al. 2018, table 2."""
V1_URL = "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth"
V2_URL = "https://download.pytorch.org/models/mobilenet_v2-7ebf99e0.pth"


def build(num_classes: int = 1000) -> nn.Module:
    """Returns the network with random weights, under torchvision's names."""
    blocks = [
        BlockSpec(width, 3, stride if index == 0 else 1, expand)
        for expand, width, count, stride in _STAGES
        for index in range(count)
    ]
    return InvertedResidualNet(blocks, num_classes=num_classes)


def imagenet_v1_state_dict() -> dict[str, Tensor]:
    """Returns torchvision's first ImageNet weights (71.9 % top-1). As `imagenet_v2_state_dict`."""
    return _imagenet_state_dict(V1_URL)


def imagenet_v2_state_dict() -> dict[str, Tensor]:
    """Returns torchvision's newer ImageNet weights (72.2 % top-1), downloaded once into torch.hub's cache.

    Their checksum is verified at every reading; torch.hub verifies it only after a download.

    Raises:
        ConfigError: if they are neither in the cache nor can be downloaded, or if the cached file is damaged.
    """
    return _imagenet_state_dict(V2_URL)


def _imagenet_state_dict(url: str) -> dict[str, Tensor]:
    cached = checkpoints_folder() / Path(url).name
    kept = cached.exists()
    try:
        fetch_verified(url, cached)
    except ConfigError as error:
        if kept:
            raise ConfigError(f"ImageNet weights of mobilenet_v2: {error}") from None
        raise ConfigError(
            f"ImageNet weights of mobilenet_v2 are not in {cached}, and {error}: "
            "use --weights FILE, --weights none, or --backbone efficientnet_lite0 (its weights are installed)"
        ) from None
    tensors: dict[str, Tensor] = load_tensors(cached, f"ImageNet weights of mobilenet_v2 in {cached}")
    return tensors
