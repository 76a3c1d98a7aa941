"""The size of images for which another package's network was made."""

import dataclasses

from tinytl.config.train_config import TrainConfig


def at_own_resolution(config: TrainConfig) -> TrainConfig:
    """Returns `config` at the size for which its network was made, if that is another package's and says so.

    Imports torch for such a network only.

    Raises:
        ConfigError: as `backbone_of`.
    """
    if "/" not in config.backbone:
        return config
    from tinytl.networks.backbones import backbone_of

    own = backbone_of(config.backbone).resolution
    return config if own is None else dataclasses.replace(config, resolution=own)
