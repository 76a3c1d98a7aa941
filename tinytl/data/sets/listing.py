"""Completes the splits of a data set from its listing, in memory or as files."""

import dataclasses
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinytl.config.train_config import TrainConfig
from tinytl.data.pictures import decode_all
from tinytl.data.splits import DataSplits, ImageFiles, ImageSet, Split
from tinytl.errors import ConfigError

STORED_OVER_INPUT = 8 / 7
"""Images are kept a little larger than the network's input, so that crops have room (256 for 224)."""
MEMORY_LIMIT_MIB = 2048
"""Largest size that `loading=auto` keeps in memory: 10,900 images for 224 px, 58,000 for 96 px."""


@dataclass(frozen=True)
class Listing:
    """The splits of a data set as published; `val` and `test` are None if it has none."""

    classes: tuple[str, ...]
    train: Split
    val: Split | None = None
    test: Split | None = None


def stored_side(resolution: int) -> int:
    """Returns the edge in pixels of stored images for inputs of `resolution`."""
    return math.ceil(resolution * STORED_OVER_INPUT)


def image_files(folder: Path, members: Iterable[tuple[str, int]], side: int) -> ImageFiles:
    """Returns a split of files, given as paths under `folder` with their labels."""
    pairs = list(members)
    names = np.array([os.fsencode(name) for name, _ in pairs], dtype=np.bytes_)
    return ImageFiles(str(folder), names, np.array([label for _, label in pairs], dtype=np.int64), side)


def in_memory_or_streamed(splits: DataSplits, config: TrainConfig) -> DataSplits:
    """Decodes the files of `splits` if `config.loading` is memory, or is auto and they fit.

    Raises:
        ConfigError: naming a file that is missing, empty, or (if decoded now) no image; or `loading=stream`
            for a set that is not files.
    """
    parts = {"train": splits.train, "val": splits.val, "test": splits.test}
    files = {name: part for name, part in parts.items() if isinstance(part, ImageFiles)}
    if not files:
        if config.loading == "stream":
            raise ConfigError(
                f"loading=stream: {splits.name} is arrays, not image files: leave loading at auto"
            )
        return splits
    size_mib = sum(len(part) * 3 * part.side**2 for part in files.values()) / 2**20
    if config.loading == "stream" or (config.loading == "auto" and size_mib > MEMORY_LIMIT_MIB):
        for part in files.values():
            _check_present(part)
        return splits
    paths = [part.path(i) for part in files.values() for i in range(len(part))]
    stored = decode_all(paths, splits.train.side)
    ends = np.cumsum([len(part) for part in files.values()])[:-1]
    loaded: dict[str, Split] = {
        name: ImageSet(images, part.labels)
        for (name, part), images in zip(files.items(), np.split(stored, ends), strict=True)
    }
    return dataclasses.replace(splits, train=loaded["train"], val=loaded["val"], test=loaded.get("test"))


def _check_present(files: ImageFiles) -> None:
    for i in range(len(files)):
        path = files.path(i)
        try:
            empty = path.stat().st_size == 0
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror or error}; the data set lists it") from None
        if empty:
            raise ConfigError(f"{path} is empty: repair or remove it")
