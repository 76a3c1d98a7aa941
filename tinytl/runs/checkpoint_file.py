"""Saving and reading a training checkpoint: whole or not at all, and only for the run that it belongs to."""

import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tinytl.config.flat import flat_from_config, with_defaults
from tinytl.config.names import LITE_RATIO
from tinytl.config.train_config import TrainConfig
from tinytl.data.load import DataSplits
from tinytl.errors import ConfigError
from tinytl.files import check_checksums, written_whole

MAY_DIFFER = ("data_dir", "loading", "loader_workers", "skip_broken", "exclude", "device")
"""Fields that may differ when a checkpoint is resumed: they say where a run executes, or are held against the
images that they leave."""


class DamagedCheckpointError(ConfigError):
    """A checkpoint whose bytes are not those that were written."""


def save_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """Writes `state` to `path`, whole or not at all: the old file survives a failure.

    Raises:
        ConfigError: if the disk is full or cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)  # in memory first: torch reports a full disk as errors of its own
    try:
        with written_whole(path) as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        kept = "the one before is kept" if path.exists() else "there is none before"
        raise ConfigError(
            f"checkpoint {path} cannot be written ({error.strerror}); {kept}: make room, then add --resume"
        ) from None


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Returns what `save_checkpoint` wrote, its tensors on `device`.

    Raises:
        DamagedCheckpointError: for a file that is not what was written.
        ConfigError: for a file that is missing, or not a checkpoint of a training run.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such checkpoint")
    try:
        with zipfile.ZipFile(path) as archive:
            check_checksums(archive, path)  # torch does not compare them
        state = torch.load(path, map_location=device, weights_only=True)
    except ConfigError as error:
        raise DamagedCheckpointError(str(error)) from None
    except Exception as error:  # the exception depends on where the file is damaged
        raise DamagedCheckpointError(f"{path} is damaged or no checkpoint ({type(error).__name__})") from None
    if not isinstance(state, dict) or not {"net", "epoch", "config", "classes"} <= state.keys():
        raise ConfigError(f"{path} is not a checkpoint of a training run")
    return state


def check_same_run(state: Mapping[str, Any], config: TrainConfig, data: DataSplits, path: Path) -> None:
    """Raises ConfigError if a checkpoint is of another configuration or of other images.

    The message names the first difference. `config` is as given, before its plan was resolved, because the
    way a process runs its share may differ. A field that did not exist when the run began had its default.
    """
    saved, now = with_defaults(state["given"]), flat_from_config(config)
    for settings in (saved, now):
        settings[LITE_RATIO] = config.lite_ratio(settings[LITE_RATIO])
    for name, value in now.items():
        if name not in MAY_DIFFER and saved[name] != value:
            raise ConfigError(
                f"{path} is of another configuration: {name} is {saved[name]} there and {value} here; resume "
                "with what it was, or choose another --out"
            )
    check_same_classes(state, data.classes, path)
    for name, size in split_sizes(data).items():
        if state["sizes"][name] != size:
            raise ConfigError(
                f"{path} was trained on other images: {state['sizes'][name]} for {name} there and {size} "
                "here; give the same images, or choose another --out"
            )
    if None not in (was := state.get("digest"), data.digest) and was != data.digest:
        raise ConfigError(
            f"{path} was trained on other images: as many, but their digest is {was} there and {data.digest} "
            "here; give the same images, or choose another --out"
        )


def split_sizes(data: DataSplits) -> dict[str, int | None]:
    """Returns the number of images in each split, None if there is none."""
    splits = {"train": data.train, "val": data.val, "test": data.test}
    return {name: None if split is None else len(split) for name, split in splits.items()}


def check_same_classes(state: Mapping[str, Any], classes: Sequence[str], path: Path) -> None:
    """Raises ConfigError if a checkpoint has other classes than the data; the message names the first."""
    saved = state["classes"]
    if len(saved) != len(classes):
        raise ConfigError(f"{path} knows {len(saved)} classes, the data set has {len(classes)}")
    for index, (theirs, ours) in enumerate(zip(saved, classes, strict=True)):
        if theirs != ours:
            raise ConfigError(f"{path}: class {index} is {theirs!r} there and {ours!r} in the data set")
