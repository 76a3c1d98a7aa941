"""Loading a backbone's weights, with an account of what was loaded, new, and dropped."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tinytl.backbones import BACKBONES
from tinytl.errors import ConfigError


@dataclass(frozen=True)
class LoadAccount:
    """Names of the tensors that came from the weights, stayed random, and found no place."""

    loaded: tuple[str, ...]
    new: tuple[str, ...]
    dropped: tuple[str, ...]

    def __str__(self) -> str:
        def some(names: tuple[str, ...]) -> str:
            return f"{len(names)}" + (f" ({names[0]}, ...)" if names else "")

        return f"{len(self.loaded)} tensors loaded, {some(self.new)} new, {some(self.dropped)} dropped"


def read_weights(backbone: str, weights: str) -> dict[str, Tensor] | None:
    """Returns the state dict that `weights` (`imagenet`, `none` or a file) names, None for `none`.

    Raises:
        ConfigError: for a missing or unreadable file, or ImageNet weights that cannot be had.
    """
    if weights == "none":
        return None
    if weights == "imagenet":
        provider = BACKBONES[backbone].imagenet_state_dict
        if provider is None:
            raise ConfigError(
                f"no ImageNet weights of {backbone} are published for direct loading: "
                "use --weights FILE, --weights none, or another --backbone"
            )
        return provider()
    path = Path(weights).expanduser()
    if not path.is_file():
        raise ConfigError(f"--weights {weights}: no such file (nor one of the names imagenet, none)")
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise ConfigError(
            f"--weights {weights}: not a file of tensors that torch can load ({type(error).__name__})"
        ) from None
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise ConfigError(f"--weights {weights}: not a state dict (a dict from names to tensors)")
    return loaded


def load_weights_(net: nn.Module, state_dict: Mapping[str, Tensor], source: str) -> LoadAccount:
    """Copies `state_dict` into `net`; the classifier is never taken, it belongs to other classes.

    Raises:
        ConfigError: naming the first tensor whose shape does not fit, or a file that shares no feature
            with the network, or leaves some of the network's features out.
    """
    own = net.state_dict()
    features = {name for name in own if name.startswith("features.")}
    given = {name: value for name, value in state_dict.items() if name in features}
    for name, value in given.items():
        if value.shape != own[name].shape:
            raise ConfigError(
                f"--weights {source}: {name} has shape {tuple(value.shape)}, "
                f"the network needs {tuple(own[name].shape)}"
            )
    counters = {name for name in features if name.endswith("num_batches_tracked")}
    missing = sorted(features - given.keys() - counters)
    if missing:
        raise ConfigError(
            f"--weights {source}: {missing[0]} is not in the file ({len(missing)} of {len(features)} tensors "
            "are missing): is it for another backbone?"
        )
    net.load_state_dict(given, strict=False)
    return LoadAccount(
        loaded=tuple(given),
        new=tuple(name for name in own if name not in given and name not in counters),
        dropped=tuple(name for name in state_dict if name not in given),
    )
