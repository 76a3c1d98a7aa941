"""The networks: architecture, and where their ImageNet weights come from."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from tinytl.backbones import efficientnet_lite0, mobilenet_v2, proxylessnas_mobile


@dataclass(frozen=True)
class Backbone:
    """A network with `features` and `classifier`, and the input normalisation of its ImageNet weights."""

    build: Callable[[int], nn.Module]
    """Number of classes to a network with random weights."""
    input_mean: tuple[float, float, float]
    input_std: tuple[float, float, float]
    imagenet_state_dict: Callable[[], dict[str, Tensor]] | None
    """None: no weights are published in a form that can be loaded by name."""


BACKBONES = {
    "efficientnet_lite0": Backbone(
        efficientnet_lite0.build,
        efficientnet_lite0.INPUT_MEAN,
        efficientnet_lite0.INPUT_STD,
        efficientnet_lite0.imagenet_state_dict,
    ),
    "mobilenet_v2": Backbone(
        mobilenet_v2.build,
        mobilenet_v2.INPUT_MEAN,
        mobilenet_v2.INPUT_STD,
        mobilenet_v2.imagenet_state_dict,
    ),
    "proxylessnas_mobile": Backbone(
        proxylessnas_mobile.build, proxylessnas_mobile.INPUT_MEAN, proxylessnas_mobile.INPUT_STD, None
    ),
}
