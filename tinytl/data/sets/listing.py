"""Completes the splits of a data set from its listing, in memory or as files."""

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinytl.config.train_config import TrainConfig
from tinytl.data.pictures import BrokenPicture, broken_error, decode_all, find_broken
from tinytl.data.splits import DataSplits, ImageFiles, ImageSet, Split
from tinytl.errors import ConfigError
from tinytl.plural import counted

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
    left_out: str = ""
    """What a scan of the folder left aside, by reason."""


def stored_side(resolution: int) -> int:
    """Returns the edge in pixels of stored images for inputs of `resolution`."""
    return math.ceil(resolution * STORED_OVER_INPUT)


def image_files(folder: Path, members: Iterable[tuple[str, int]], side: int) -> ImageFiles:
    """Returns a split of files, given as paths under `folder` with their labels."""
    pairs = list(members)
    names = np.array([os.fsencode(name) for name, _ in pairs], dtype=np.bytes_)
    return ImageFiles(str(folder), names, np.array([label for _, label in pairs], dtype=np.int64), side)


def in_memory_or_streamed(splits: DataSplits, config: TrainConfig) -> tuple[DataSplits, DataSplits]:
    """Decodes the files of `splits` if `config.loading` is memory, or is auto and they fit.

    Returns the splits to train on, and the same as files: with `config.skip_broken` without those that do not
    decode.

    Raises:
        ConfigError: naming files that are missing, empty, or (if decoded now) no images; or `loading=stream`
            for a set that is not files.
    """
    parts = {"train": splits.train, "val": splits.val, "test": splits.test}
    files = {name: part for name, part in parts.items() if isinstance(part, ImageFiles)}
    if not files:
        if config.loading == "stream":
            raise ConfigError(
                f"loading=stream: {splits.name} is arrays, not image files: leave loading at auto"
            )
        return splits, splits
    size_mib = sum(len(part) * 3 * part.side**2 for part in files.values()) / 2**20
    paths = [part.path(i) for part in files.values() for i in range(len(part))]
    if config.loading == "stream" or (config.loading == "auto" and size_mib > MEMORY_LIMIT_MIB):
        broken = find_broken(paths) if config.skip_broken else _missing_or_empty(paths)
        kept = _kept(splits, files, paths, broken, config)
        return kept, kept
    stored, broken = decode_all(paths, splits.train.side)
    kept = _kept(splits, files, paths, broken, config)
    parts = {"train": kept.train, "val": kept.val, "test": kept.test}
    remaining = {name: part for name, part in parts.items() if part is not None}
    ends = np.cumsum([len(part) for part in remaining.values()])[:-1]
    loaded: dict[str, Split] = {
        name: ImageSet(images, part.labels)
        for (name, part), images in zip(remaining.items(), np.split(stored, ends), strict=True)
    }
    in_memory = dataclasses.replace(kept, train=loaded["train"], val=loaded["val"], test=loaded.get("test"))
    return in_memory, kept


def without_broken(files: ImageFiles, config: TrainConfig) -> ImageFiles:
    """Decodes each of `files` once; returns those that decode.

    Raises:
        ConfigError: naming those that do not, unless `config.skip_broken`.
    """
    paths = [files.path(i) for i in range(len(files))]
    broken = find_broken(paths)
    if broken and not config.skip_broken:
        raise broken_error(broken, len(paths))
    bad = {one.path for one in broken}
    return files.take(np.flatnonzero([path not in bad for path in paths]))


def _kept(
    splits: DataSplits,
    files: Mapping[str, ImageFiles],
    paths: Sequence[Path],
    broken: Sequence[BrokenPicture],
    config: TrainConfig,
) -> DataSplits:
    """Returns `splits` without the broken files, if those are to be left out.

    Raises:
        ConfigError: naming the broken files, or a class or a split of which too few are left.
    """
    if not broken:
        return splits
    if not config.skip_broken:
        raise broken_error(broken, len(paths))
    bad = {one.path for one in broken}
    whole = iter(path not in bad for path in paths)
    kept = {
        name: part.take(np.flatnonzero([next(whole) for _ in range(len(part))]))
        for name, part in files.items()
    }
    missing = np.setdiff1d(np.arange(len(splits.classes)), kept["train"].labels)
    if len(missing) or not len(kept["val"]):
        what = f"to train class {splits.classes[missing[0]]}" if len(missing) else "to validate"
        raise ConfigError(
            f"--skip-broken: {counted(len(bad), 'file')} cannot be decoded, and none is left {what}"
        )
    test = kept.get("test")
    account = f"{splits.account or splits.name}; skipped: {len(bad):,} that do not decode"
    return dataclasses.replace(
        splits, train=kept["train"], val=kept["val"], test=test if test else None, account=account
    )


def _missing_or_empty(paths: Sequence[Path]) -> list[BrokenPicture]:
    found = []
    for path in paths:
        try:
            if path.stat().st_size == 0:
                found.append(BrokenPicture(path, "it is empty"))
        except OSError as error:
            found.append(BrokenPicture(path, f"{error.strerror or error}; the data set lists it"))
    return found
