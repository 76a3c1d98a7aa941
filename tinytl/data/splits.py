"""Splits of a data set, as arrays in memory or as files to decode, and how they are divided. Works without
torch.

Search and training see train and val; test is read once, at the end.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

HELD_OUT_FRACTION = 0.2
"""Share of each class that becomes val, and test, if the data set has no such split."""
SPLIT_SEED = 0
"""Splits do not depend on the run's seed, so runs with other seeds stay comparable, and test stays unseen."""


@dataclass(frozen=True)
class ImageSet:
    """Images `(N, S, S, 3)` uint8 and labels `(N,)` int64 of one split."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def side(self) -> int:
        """Pixels of each image's edge, as stored."""
        return self.images.shape[1]

    def take(self, index: npt.NDArray[np.int64]) -> "ImageSet":
        """Returns a copy of these rows."""
        return ImageSet(self.images[index], self.labels[index])


@dataclass(frozen=True)
class ImageFiles:
    """Files of one split, decoded when a batch needs them, and labels `(N,)` int64.

    Pickles as its listing, which is all that a trial receives.
    """

    folder: str
    names: npt.NDArray[np.bytes_]
    """Path of each file under `folder`. An array, not a list: a million strings would need 100 MiB in every
    process that receives them."""
    labels: npt.NDArray[np.int64]
    side: int
    """Edge in pixels to which each file's central square is resized."""

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> Path:
        """Returns the path of one file."""
        return Path(self.folder, os.fsdecode(bytes(self.names[index])))

    def names_under(self, folder: Path | str) -> npt.NDArray[np.bytes_]:
        """Returns the path of each file relative to another folder, `(N,)`."""
        inside = os.path.relpath(self.folder, folder)
        return self.names if inside == "." else np.char.add(os.fsencode(inside + os.sep), self.names)

    def take(self, index: npt.NDArray[np.int64]) -> "ImageFiles":
        """Returns these files alone."""
        return ImageFiles(self.folder, self.names[index], self.labels[index], self.side)


Split: TypeAlias = ImageSet | ImageFiles
"""The source of batches."""


@dataclass(frozen=True)
class DataSplits:
    """A data set: the names of its classes and its splits; `test` is None if there is none."""

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    """Empty if all that is not tested is to be trained on (`with_val_trained`)."""
    test: Split | None
    crop_scale_min: float
    """Smallest share of the area that a training crop keeps, if the run does not set it."""
    flip: bool
    """Whether mirrored images keep their class, if the run does not set it."""
    account: str | None = None
    """A line for the user: what was counted in a folder, and what was left out."""
    digest: str | None = None
    """Digest of the images' content, the same on every machine; None if nothing was loaded by name."""


def parts_of(splits: DataSplits) -> dict[str, Split]:
    """Returns the splits that there are, by name: train, val and perhaps test."""
    parts = {"train": splits.train, "val": splits.val, "test": splits.test}
    return {name: part for name, part in parts.items() if part is not None}


def in_words(parts: Mapping[str, Split]) -> str:
    """Returns the sizes of splits, by the names of `parts_of`: `29 to train, 9 to validate`."""
    verbs = {"train": "train", "val": "validate", "test": "test"}
    return ", ".join(f"{len(part):,} to {verbs[name]}" for name, part in parts.items())


def with_parts(splits: DataSplits, parts: Mapping[str, Split]) -> DataSplits:
    """Returns `splits` with other images, by the names of `parts_of`. A test split without any is none."""
    return replace(splits, train=parts["train"], val=parts["val"], test=parts.get("test") or None)


def stratified_split(
    labels: npt.NDArray[np.int64], fraction: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Splits `range(len(labels))` in two, the second holding `fraction` of every class (at least one).

    A class with one image stays in the first; the parts are sorted, disjoint and the same for the same seed.
    """
    rng = np.random.default_rng(seed)
    held_out: list[int] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        held_out.extend(rng.permutation(members)[:count].tolist())
    second = np.sort(np.array(held_out, dtype=np.int64))
    return np.setdiff1d(np.arange(len(labels)), second), second


def two_way(whole: Split) -> tuple[Split, Split]:
    """Divides images that have a test split into train and val."""
    kept, held_out = stratified_split(whole.labels, HELD_OUT_FRACTION, SPLIT_SEED)
    return whole.take(kept), whole.take(held_out)


def three_way(whole: Split) -> tuple[Split, Split, Split]:
    """Divides images into train, val and test."""
    rest, test = stratified_split(whole.labels, HELD_OUT_FRACTION, SPLIT_SEED)
    inside = HELD_OUT_FRACTION / (1 - HELD_OUT_FRACTION)
    train, val = stratified_split(whole.labels[rest], inside, SPLIT_SEED + 1)
    return whole.take(rest[train]), whole.take(rest[val]), whole.take(test)


def with_val_trained(data: DataSplits) -> DataSplits:
    """Returns `data` with its validation images among the training ones: nothing is left to validate on."""
    digest = None
    if data.digest is not None:
        digest = hashlib.blake2b(f"{data.digest} val".encode(), digest_size=8).hexdigest()
    return replace(
        data,
        train=_joined(data.train, data.val),
        val=data.val.take(np.array([], dtype=np.int64)),
        account=None,
        digest=digest,
    )


def _joined(first: Split, second: Split) -> Split:
    labels = np.concatenate([first.labels, second.labels])
    if isinstance(first, ImageSet):
        assert isinstance(second, ImageSet)  # a data set is in memory, or is files
        return ImageSet(np.concatenate([first.images, second.images]), labels)
    assert isinstance(second, ImageFiles) and first.side == second.side
    folder = os.path.commonpath([first.folder, second.folder])
    names = np.concatenate([first.names_under(folder), second.names_under(folder)])
    return ImageFiles(folder, names, labels, first.side)
