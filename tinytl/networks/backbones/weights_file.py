"""Reading tensors from a file or a URL: whole, verified, and without running code."""

import math
import pickle
import re
import urllib.parse
import urllib.request
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tinytl.config.weights_source import is_url
from tinytl.download import cached_path, checksum_in_name, download, verify
from tinytl.errors import ConfigError
from tinytl.files import check_checksums

Channels = tuple[float, float, float]

_WRAPPERS = (
    "state_dict_ema model_ema ema_state_dict state_dict model_state_dict net model module network ema weights"
).split()
"""Keys under which checkpoints keep the tensors, averaged ones first; `net` is this project's."""
_TOP_NAMES = ("features", "classifier", "blocks", "_blocks")
"""First parts of names that belong to the networks: any other that all names share is a wrapper's."""
_COUNTERS = ("n_averaged",)
"""What wrappers keep beside the network's tensors."""


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """Tensors by name, where they came from, and the input that they expect."""

    source: str
    """As the user named it."""
    state_dict: Mapping[str, Tensor]
    input_mean: Channels | None = None
    """Mean of each input channel in [0, 1]. None: the file does not say."""
    input_std: Channels | None = None
    note: str = ""
    """Where in the file the tensors were, and what was dropped from their names."""

    @property
    def named(self) -> str:
        """The source, with the note."""
        return f"{self.source} ({self.note})" if self.note else self.source


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
    keys, tensors = _unwrapped(content)
    if tensors is None:
        raise ConfigError(f"{flag} {source}: not a state dict (a dict from names to tensors)")
    mean, std = (
        _channels(f"{flag} {source}", name, content.get(name) if keys else None)
        for name in ("input_mean", "input_std")
    )
    if (mean is None) != (std is None):
        raise ConfigError(
            f"{flag} {source}: the file holds one of input_mean and input_std without the other"
        )
    prefix, state_dict = without_prefix(tensors)
    _check_finite(f"{flag} {source}", state_dict)
    notes = [f"its {'.'.join(keys)}"] if keys and keys != ["state_dict"] and keys != ["net"] else []
    notes += [f"names without {prefix}"] if prefix else []
    return WeightsFile(
        source=source, state_dict=state_dict, input_mean=mean, input_std=std, note=", ".join(notes)
    )


def load_tensors(path: Path, place: str, hint: str = "") -> Any:
    """Loads a file of tensors on the CPU, without running code that it may hold.

    Raises:
        ConfigError: beginning with `place` and ending with `hint`.
    """
    if path.suffix.lower() == ".safetensors":
        return _load_safetensors(path, place, hint)
    what = f"{place}: not a file of tensors that torch can load"
    try:
        kind = _kind_of_archive(path, place)
        if kind is not None:
            raise ConfigError(f"{place}: it is {kind}; save the state dict alone{hint}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except ConfigError:
        raise
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        if code is not None:
            raise ConfigError(
                f"{what}: it asks to run {code.group(1)}, which is refused; save the state dict alone{hint}"
            ) from None
        raise ConfigError(f"{what} (damaged: UnpicklingError){hint}") from None
    except Exception as error:  # the exception depends on where the file is damaged
        raise ConfigError(f"{what} ({type(error).__name__}){hint}") from None


def without_prefix(state_dict: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Drops what wrappers put before every name (`module.`, `_orig_mod.`, `model.`), and returns it, too."""
    left = {name: value for name, value in state_dict.items() if name not in _COUNTERS}
    prefix = ""
    while len(first := {name.partition(".")[0] for name in left}) == 1:
        (shared,) = first
        if shared in _TOP_NAMES or any("." not in name for name in left):
            break
        prefix += f"{shared}."
        left = {name.removeprefix(f"{shared}."): value for name, value in left.items()}
    return prefix, left


def _unwrapped(content: Any) -> tuple[list[str], dict[str, Tensor] | None]:
    """Returns the keys that lead to the tensors of a checkpoint, and the tensors; None if there are none."""
    if not isinstance(content, Mapping):
        return [], None
    if all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()):
        return [], dict(content)
    for key in _WRAPPERS:
        if key in content:
            keys, tensors = _unwrapped(content[key])
            if tensors:
                return [key, *keys], tensors
    return [], None


def _check_finite(place: str, state_dict: Mapping[str, Tensor]) -> None:
    for name, value in state_dict.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ConfigError(f"{place}: {name} holds NaN or infinity: the file is of a run that diverged")


def _load_safetensors(path: Path, place: str, hint: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        text = " ".join(str(error).split())
        raise ConfigError(f"{place}: not a file of safetensors, or damaged ({text}){hint}") from None


def _kind_of_archive(path: Path, place: str) -> str | None:
    """Returns what a zip archive is if it holds no state dict, after a look at its members' checksums.

    torch reads an archive without comparing them.

    Raises:
        ConfigError: for a member that is damaged.
    """
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            return "TorchScript"
        if names and all(name.endswith(".npy") for name in names):
            return "numpy's npz"
        check_checksums(archive, f"{place}: the file")
    return None


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
