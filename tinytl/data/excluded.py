"""Pictures that a person leaves out of a data set by a list. Works without torch.

A list is a text file with a path per line, or a table with a column `file`, such as `tinytl check --csv`
writes. Splits are made before pictures are left out: the others stay in the split that they are in without
a list.
"""

import csv
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinytl.config.train_config import TrainConfig
from tinytl.data.splits import DataSplits, ImageSet, Split, parts_of, with_parts
from tinytl.errors import ConfigError

COLUMN = "file"
"""The column of a table that names pictures."""
MOST_NAMED = 3

Names = npt.NDArray[np.bytes_]


def names_of(split: str, part: Split, data_dir: str | None) -> Names:
    """Returns the name of each picture of a split, `(N,)`.

    A file is named by its path relative to the data folder. Sets of arrays have no files: their pictures are
    `train/0`, `train/1`, ...
    """
    if isinstance(part, ImageSet):
        return np.array([b"%s/%d" % (split.encode(), row) for row in range(len(part))], dtype=np.bytes_)
    return part.names_under(_root(data_dir))


def without_excluded(splits: DataSplits, config: TrainConfig) -> DataSplits:
    """Returns `splits` without the pictures that the file `config.exclude` names, and counts them.

    Raises:
        ConfigError: for a list that does not read, or that names what is no picture of the data set.
    """
    if config.exclude is None:
        return splits
    kept, count = without_listed(parts_of(splits), config, splits.name)
    account = f"{splits.account or splits.name}; excluded: {count:,} by {Path(config.exclude).name}"
    return dataclasses.replace(with_parts(splits, kept), account=account)


def check_enough_left(splits: DataSplits, config: TrainConfig) -> None:
    """Raises ConfigError if what `config` leaves out leaves no picture to train a class, or to validate."""
    flags = [] if config.exclude is None else [f"--exclude {config.exclude}"]
    flags += [f"--min-per-class {config.min_per_class}"] if config.min_per_class else []
    missing = np.setdiff1d(np.arange(len(splits.classes)), splits.train.labels)
    if flags and (len(missing) or not len(splits.val)):
        what = f"to train class {splits.classes[missing[0]]}" if len(missing) else "to validate"
        list_too = "take lines out of the list, or " if config.exclude is not None else ""
        how = "leave the class out by --min-per-class" if len(missing) else "add pictures"
        raise ConfigError(f"{' and '.join(flags)}: no picture is left {what}: {list_too}{how}")


def without_listed(
    parts: Mapping[str, Split], config: TrainConfig, set_name: str
) -> tuple[dict[str, Split], int]:
    """Returns splits without the pictures that the file `config.exclude` names, and how many these are.

    Raises:
        ConfigError: as `without_excluded`; a split may become empty.
    """
    excluded = read_excluded(config)
    listed = np.array(list(excluded), dtype=np.bytes_)
    kept: dict[str, Split] = {}
    found: set[bytes] = set()
    for name, part in parts.items():
        names = names_of(name, part, config.data_dir)
        out = np.isin(names, listed)
        found.update(names[out].tolist())
        kept[name] = part.take(np.flatnonzero(~out))
    if len(found) < len(excluded):
        unknown = [(name, line) for name, line in excluded.items() if name not in found]
        assert config.exclude is not None
        raise _unknown(config.exclude, unknown, f"is no picture of {set_name}")
    return kept, len(found)


def read_excluded(config: TrainConfig) -> Mapping[bytes, int]:
    """Returns the names in the file `config.exclude`, each with the first line that has it.

    A name of a file in the data folder may also be its absolute path.

    Raises:
        ConfigError: for a list that does not read, a table without a column `file`, an empty list, or files
            that are not there.
    """
    assert config.exclude is not None
    path = Path(config.exclude).expanduser()
    root = _root(config.data_dir)
    names: dict[bytes, int] = {}
    for line, text in _cells(path, config.exclude):
        names.setdefault(os.fsencode(os.path.relpath(Path(root, text), root)), line)
    if not names:
        raise ConfigError(f"--exclude {config.exclude} names no picture: leave the flag out")
    if config.data_dir is not None and config.dataset == "imagefolder":
        gone = [(name, line) for name, line in names.items() if not (root / os.fsdecode(name)).is_file()]
        if gone:
            raise _unknown(config.exclude, gone, f"is no file in {config.data_dir}")
    return names


def _cells(path: Path, given: str) -> list[tuple[int, str]]:
    """Returns the number of each line that names a picture, with the name."""
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            first = file.readline()
            file.seek(0)
            # A spreadsheet writes semicolons if its language has commas in numbers.
            delimiter = next((one for one in ",;" if COLUMN in _header(first, one)), ",")
            header = _header(first, delimiter)
            if COLUMN not in header:
                lines = [(number, line.strip("\r\n")) for number, line in enumerate(file, 1)]
                return [(number, line) for number, line in lines if line.strip()]
            column, reader = header.index(COLUMN), csv.reader(file, delimiter=delimiter)
            next(reader)
            rows = [(reader.line_num, row[column]) for row in reader if len(row) > column]
            return [(number, cell) for number, cell in rows if cell]
    except (OSError, csv.Error) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConfigError(
            f"--exclude {given} does not read ({why}): give a file with a path per line, or a table with a "
            f"column {COLUMN}"
        ) from None


def _header(line: str, delimiter: str) -> list[str]:
    return [cell.strip().lower() for cell in next(csv.reader([line], delimiter=delimiter), [])]


def _unknown(given: str, names: list[tuple[bytes, int]], what: str) -> ConfigError:
    for name, line in names:
        try:
            name.decode()
        except UnicodeDecodeError:
            raise ConfigError(
                f"--exclude {given}: line {line} is not UTF-8, and {what.removeprefix('is ')} as it is: save "
                "the list as UTF-8 (in a spreadsheet: CSV UTF-8)"
            ) from None
    shown = ", ".join(f"{os.fsdecode(name)} (line {line})" for name, line in names[:MOST_NAMED])
    rest = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    verb = what if len(names) == 1 else what.replace("is no", "are no", 1)
    return ConfigError(
        f"--exclude {given}: {shown}{rest} {verb}: paths are relative to the data folder; correct or remove "
        "these lines"
    )


def _root(data_dir: str | None) -> Path:
    return Path(data_dir or "").expanduser()
