"""Classes with few pictures: left out if that is asked for. Works without torch.

Splits are made before, so that the pictures of the other classes stay where they are without this.
"""

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from tinytl.data.splits import DataSplits, Split, parts_of, with_parts
from tinytl.errors import ConfigError
from tinytl.plural import counted

MOST_NAMED = 12
"""Classes that a line names."""


def without_small_classes(splits: DataSplits, least: int, known: Collection[str] = ()) -> DataSplits:
    """Returns `splits` without the classes that have fewer than `least` pictures, and names these.

    The pictures of all splits count. Classes that are left keep their order.

    Args:
        splits: the data set.
        least: 0 or 1: no class is left out.
        known: classes that stay, however few pictures they have: a network has learned them.

    Raises:
        ConfigError: if fewer than two classes are left.
    """
    parts = parts_of(splits)
    counts = sum(np.bincount(part.labels, minlength=len(splits.classes)) for part in parts.values())
    assert isinstance(counts, np.ndarray)
    stays = np.array([n >= least or name in known for name, n in zip(splits.classes, counts, strict=True)])
    if stays.all():
        return splits
    kept = np.flatnonzero(stays)
    if len(kept) < 2:
        left = "no class" if not len(kept) else f"one class ({splits.classes[kept[0]]})"
        raise ConfigError(
            f"--min-per-class {least} leaves {left} of {splits.name}: two are needed at least: give a lower "
            "number, or add pictures"
        )
    gone = [(splits.classes[turn], int(counts[turn])) for turn in np.flatnonzero(~stays)]
    numbers = np.cumsum(stays) - 1
    left_parts = {name: _of_classes(part, stays, numbers) for name, part in parts.items()}
    return dataclasses.replace(
        with_parts(splits, left_parts),
        classes=tuple(splits.classes[turn] for turn in kept),
        account=f"{splits.account or splits.name}; {_left_out(gone, least)}",
    )


def _of_classes(part: Split, stays: npt.NDArray[np.bool_], numbers: npt.NDArray[np.int64]) -> Split:
    """Returns the pictures of the classes that stay, with their new numbers as labels."""
    taken = part.take(np.flatnonzero(stays[part.labels]))
    return dataclasses.replace(taken, labels=numbers[taken.labels].astype(np.int64))


def _left_out(gone: Sequence[tuple[str, int]], least: int) -> str:
    named = ", ".join(f"{name} ({count})" for name, count in gone[:MOST_NAMED])
    rest = f" and {len(gone) - MOST_NAMED} more" if len(gone) > MOST_NAMED else ""
    classes = counted(len(gone), "class", "classes")
    return f"left out: {classes} with fewer than {counted(least, 'picture')}: {named}{rest}"
