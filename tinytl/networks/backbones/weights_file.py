"""Reading tensors from a file or a URL: whole, verified, and without running code."""

import math
import pickle
import re
import urllib.parse
import urllib.request
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tinytl.config.weights_source import is_url
from tinytl.download import cached_path, checksum_in_name, download, verify
from tinytl.errors import ConfigError

Channels = tuple[float, float, float]

_WRAPPERS = ("state_dict", "net", "model")
"""Keys under which checkpoints keep the tensors; `net` is this project's."""
_PREFIXES = ("module.", "_orig_mod.")
"""Prefixes that DataParallel and torch.compile put before every name."""


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """Tensors by name, where they came from, and the input that they expect."""

    source: str
    """As the user named it."""
    state_dict: Mapping[str, Tensor]
    input_mean: Channels | None = None
    """Mean of each input channel in [0, 1]. None: the file does not say."""
    input_std: Channels | None = None


def checkpoints_folder() -> Path:
    """Returns torch.hub's folder of downloaded weights."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def read_file(flag: str, source: str) -> WeightsFile:
    """Reads a state dict, or a checkpoint that holds one, from a file or a URL.

    A URL is downloaded once, to torch.hub's folder; a checksum in its name is verified at every reading.
    Beside the tensors, a checkpoint may hold `input_mean` and `input_std`.

    Args:
        flag: the flag that an error names, such as `--weights`.
        source: a path, or an http, https or file URL.

    Raises:
        ConfigError: one line that names the source; nothing is deleted.
    """
    try:
        path = _fetch(source) if is_url(source) else Path(source).expanduser()
    except ValueError as error:  # a ConfigError, or urllib.parse's for a URL such as http://[
        raise ConfigError(f"{flag} {source}: {str(error).removeprefix(source).lstrip()}") from None
    if not path.is_file():
        raise ConfigError(f"{flag} {source}: no such file (nor one of the names imagenet, none)")
    kept = f"; it is kept in {path}, delete it to download it again" if _is_remote(source) else ""
    content = load_tensors(path, f"{flag} {source}", kept)
    wrapper = next((key for key in _WRAPPERS if _is_dict(content) and _is_dict(content.get(key))), None)
    tensors = content if wrapper is None else content[wrapper]
    if not _is_dict(tensors) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in tensors.items()
    ):
        raise ConfigError(f"{flag} {source}: not a state dict (a dict from names to tensors)")
    mean, std = (
        _channels(f"{flag} {source}", name, None if wrapper is None else content.get(name))
        for name in ("input_mean", "input_std")
    )
    if (mean is None) != (std is None):
        raise ConfigError(
            f"{flag} {source}: the file holds one of input_mean and input_std without the other"
        )
    return WeightsFile(source=source, state_dict=without_prefixes(tensors), input_mean=mean, input_std=std)


def load_tensors(path: Path, place: str, hint: str = "") -> Any:
    """Loads a file of tensors on the CPU, without running code that it may hold.

    Raises:
        ConfigError: beginning with `place` and ending with `hint`.
    """
    what = f"{place}: not a file of tensors that torch can load"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        if code is not None:
            raise ConfigError(
                f"{what}: it asks to run {code.group(1)}, which is refused; save the state dict alone{hint}"
            ) from None
        raise ConfigError(f"{what} (damaged: UnpicklingError){hint}") from None
    except Exception as error:  # the exception depends on where the file is damaged
        raise ConfigError(f"{what} ({type(error).__name__}){hint}") from None


def without_prefixes(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drops what DataParallel and torch.compile put before every name."""
    for prefix in _PREFIXES:
        if state_dict and all(name.startswith(prefix) for name in state_dict):
            state_dict = {name.removeprefix(prefix): value for name, value in state_dict.items()}
    return dict(state_dict)


def fetch_verified(url: str, path: Path) -> None:
    """Ensures that `path` holds the file of `url`: downloads it if it is missing, else verifies its checksum.

    Raises:
        ConfigError: one line that names the file.
    """
    checksum = checksum_in_name(url)
    if not path.exists():
        download(url, path, checksum)
    elif checksum is not None:
        verify(path, checksum, "; delete it, and it will be downloaded again")


def _fetch(url: str) -> Path:
    if _is_remote(url):
        path = cached_path(url, checkpoints_folder())
        fetch_verified(url, path)
        return path
    # A local file is read in place: a copy could be out of date.
    path = Path(urllib.request.url2pathname(urllib.parse.urlsplit(url).path))
    checksum = checksum_in_name(url)
    if checksum is not None and path.is_file():
        verify(path, checksum)
    return path


def _is_remote(source: str) -> bool:
    return is_url(source) and not source.lower().startswith("file://")


def _channels(place: str, name: str, value: Any) -> Channels | None:
    if value is None:
        return None
    values = value.flatten().tolist() if isinstance(value, Tensor) else value
    good = isinstance(values, (list, tuple)) and len(values) == 3
    if not good or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in values):
        raise ConfigError(f"{place}: its {name} is not three numbers")
    if name == "input_std" and min(values) <= 0:
        raise ConfigError(f"{place}: its {name} is not above 0")
    return (float(values[0]), float(values[1]), float(values[2]))


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)
