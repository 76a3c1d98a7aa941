"""The classes of a study's data set by name, with the number of images of each, in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tinytl.data.splits import DataSplits, parts_of
from tinytl.errors import ConfigError
from tinytl.files import write_whole

FILE = "classes.json"
"""In the study's folder. The record has the number of classes alone: a thousand names are too many for it."""


@dataclass(frozen=True, kw_only=True)
class ClassCounts:
    """The classes of a data set, in the order of their labels."""

    names: Sequence[str]
    images: Mapping[str, Sequence[int]]
    """By split (`train`, `val` and, if there is one, `test`): the number of images of each class."""

    def totals(self) -> dict[str, int]:
        """Returns the number of images of each split."""
        return {split: sum(counts) for split, counts in self.images.items()}


def counts_of(data: DataSplits) -> ClassCounts:
    """Returns the classes of a data set that was loaded."""
    return ClassCounts(
        names=tuple(data.classes),
        images={
            name: np.bincount(split.labels, minlength=len(data.classes)).tolist()
            for name, split in parts_of(data).items()
        },
    )


def write_class_counts(folder: Path, counts: ClassCounts) -> None:
    """Writes `classes.json`, whole or not at all.

    Raises:
        ConfigError: if it cannot be written.
    """
    write_whole(folder / FILE, json.dumps(asdict(counts), ensure_ascii=False) + "\n")


def read_class_counts(folder: Path) -> ClassCounts | None:
    """Returns what is in a study's `classes.json`; None if there is no such file: older studies have none.

    Raises:
        ConfigError: for a file that is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = [str(name) for name in content["names"]]
        images = {str(split): [int(n) for n in counts] for split, counts in content["images"].items()}
        if any(len(counts) != len(names) for counts in images.values()):
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ConfigError(f"{path} is damaged: remove it, and the next --resume writes it again") from None
    return ClassCounts(names=names, images=images)
