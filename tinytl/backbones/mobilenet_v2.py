"""MobileNetV2 1.0 of torchvision (3,504,872 parameters with 1,000 classes).

Source: Sandler et al. 2018; torchvision.models.mobilenet_v2, weights IMAGENET1K_V2.
"""

import contextlib
import io
import urllib.error
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from tinytl.errors import ConfigError

INPUT_MEAN = (0.485, 0.456, 0.406)
INPUT_STD = (0.229, 0.224, 0.225)


def build(num_classes: int = 1000) -> nn.Module:
    """Returns torchvision's network with random weights."""
    return torchvision.models.mobilenet_v2(weights=None, num_classes=num_classes)


def imagenet_state_dict() -> dict[str, Tensor]:
    """Returns torchvision's ImageNet weights (V2), downloaded once into torch's cache and verified.

    Raises:
        ConfigError: where they are not in the cache and cannot be downloaded.
    """
    weights = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V2
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        # torch.hub tells of a download on standard output, which belongs to the caller.
        with contextlib.redirect_stdout(io.StringIO()):
            return weights.get_state_dict(progress=False, check_hash=True)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise ConfigError(
            f"ImageNet weights of mobilenet_v2 are not in {cached} and could not be downloaded ({error}): "
            "use --weights FILE, --weights none, or --backbone efficientnet_lite0 (its weights are installed)"
        ) from None
