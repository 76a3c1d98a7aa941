"""The initial weights of a configuration's network, read once, and the input that they expect."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tinytl.config.train_config import TrainConfig
from tinytl.config.weights_source import IMAGENET_NAMES, NO_WEIGHTS, is_url
from tinytl.errors import ConfigError
from tinytl.networks.backbones import backbone_of
from tinytl.networks.backbones.weights_file import Channels, WeightsFile, read_file
from tinytl.networks.stored_state_dict import with_plain_weights

FILE_ENDINGS = (".safetensors", ".pth", ".pt")
"""Of a network's file in a folder of weights, the first one found."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The initial weights, under the network's names, and the input that they expect."""

    backbone: WeightsFile | None
    """None: random."""
    lite: WeightsFile | None
    """Pretrained lite residuals; None: they start at random."""


RANDOM_WEIGHTS = Weights(backbone=None, lite=None)
"""Random initial weights."""


@dataclass(frozen=True)
class InputNormalization:
    """Mean and standard deviation of each input channel in [0, 1], and their source."""

    mean: Channels
    std: Channels
    source: str

    def __str__(self) -> str:
        mean, std = (" ".join(f"{value:.3g}" for value in channels) for channels in (self.mean, self.std))
        return f"mean {mean}, std {std} ({self.source})"


def read_weights(config: TrainConfig) -> Weights:
    """Reads the backbone's weights and the lite residuals that `config` names.

    A file may be a run's or an export's whose weights are stored in 16 or 8 bits, or train in part: they are
    made float32 and whole.

    Raises:
        ConfigError: for a source that is missing, damaged or no file of tensors, or ImageNet weights that
            cannot be read.
    """
    backbone, source = backbone_of(config.backbone), config.weights
    main = lite = None
    if source in IMAGENET_NAMES:
        main = WeightsFile(
            source=source,
            state_dict=_imagenet(config.backbone, source),
            input_mean=backbone.input_mean,
            input_std=backbone.input_std,
        )
    elif source != NO_WEIGHTS:
        main = _read(config.backbone, "--weights", source)
    if config.lite_weights is not None:
        lite = _read(config.backbone, "--lite-weights", config.lite_weights)
    return Weights(backbone=main, lite=lite)


def input_normalization(config: TrainConfig, weights: Weights) -> InputNormalization:
    """Returns the normalisation of the network's input: as `config` says, else as the weights expect."""
    backbone, main = backbone_of(config.backbone), weights.backbone
    if main is not None and main.input_mean is not None and main.input_std is not None:
        mean, std, source = main.input_mean, main.input_std, f"of {main.source}"
    else:
        mean, std, source = backbone.input_mean, backbone.input_std, f"{config.backbone}'s default"
        if backbone.resolution is not None:
            source += f", made for {backbone.resolution} px"
    given = [name for name in ("input_mean", "input_std") if getattr(config, name) is not None]
    if len(given) == 2:
        source = "as given"
    elif given:
        source = f"{given[0]} as given, the other {source}"
    return InputNormalization(config.input_mean or mean, config.input_std or std, source)


def _imagenet(backbone: str, name: str) -> dict[str, Tensor]:
    providers = backbone_of(backbone).imagenet
    if name in providers:
        return providers[name]()
    if not providers:
        published = backbone_of(backbone).published
        raise ConfigError(
            f"no ImageNet weights of {backbone} are published for direct loading: use --weights FILE or URL"
            f"{f' ({published})' if published else ''}, --weights none, or another --backbone"
        )
    raise ConfigError(f"--weights {name}: {backbone} has no such set, it has {', '.join(providers)}")


def _read(backbone: str, flag: str, source: str) -> WeightsFile:
    """Reads a file, and gives its tensors the names and forms of a network whose weights are plain."""
    file = read_file(flag, _of_folder(backbone, flag, source))
    try:
        plain = with_plain_weights(file.state_dict)
    except ValueError as error:
        raise ConfigError(f"{flag} {source}: {error}") from None
    return dataclasses.replace(file, state_dict=backbone_of(backbone).rename(plain))


def _of_folder(backbone: str, flag: str, source: str) -> str:
    """Returns the backbone's file if `source` is a folder, which serves a study of several networks."""
    folder = Path(source).expanduser()
    if is_url(source) or not folder.is_dir():
        return source
    for ending in FILE_ENDINGS:
        path = folder / f"{backbone}{ending}"
        if path.is_file():
            return str(path)
    raise ConfigError(
        f"{flag} {source}: the folder has no weights of {backbone}: put {backbone}.safetensors, .pth or .pt "
        "there, or name a file"
    )
