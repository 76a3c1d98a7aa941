"""Which device a configuration means on this machine."""

import platform
from pathlib import Path

import torch

from tinytl.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """Returns the device that `auto`, `cpu` or `cuda` stands for on this machine.

    Raises:
        ConfigError: for `cuda` if torch finds no GPU.
    """
    available = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if available else "cpu"
    if name == "cuda" and not available:
        raise ConfigError("device=cuda, but torch finds no GPU here: use device auto or cpu")
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """Returns the maker's name of a GPU, or of this machine's processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
