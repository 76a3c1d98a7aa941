"""Which device a configuration means on this machine."""

import torch

from tinytl.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """Returns the device that `auto`, `cpu` or `cuda` stands for on this machine.

    Raises:
        ConfigError: for `cuda` where torch finds no GPU.
    """
    available = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if available else "cpu"
    if name == "cuda" and not available:
        raise ConfigError("device=cuda, but torch finds no GPU here: use device auto or cpu")
    return torch.device(name)
