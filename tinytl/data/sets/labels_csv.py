"""A table of labels beside images: `labels.csv` with the columns file and label, and split if it likes."""

import csv
from collections.abc import Mapping
from pathlib import Path

from tinytl.data.walk import LeftOut, pictures_under, visible
from tinytl.errors import ConfigError
from tinytl.plural import counted

LABELS_FILE = "labels.csv"
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "file": ("file", "filename", "file_name", "image", "path"),
    "label": ("label", "class", "category"),
    "split": ("split", "subset"),
}
"""What a column may be called, in any case; only the split may be missing."""
MOST_NAMED = 3


def read_labels(
    root: Path, split_names: Mapping[str, tuple[str, ...]], left_out: LeftOut
) -> dict[str, list[tuple[Path, str]]]:
    """Returns each split's images with the names of their classes; without a column split, all train.

    A file is named from `root`, or from the only folder in it. Images that no line names are left out.

    Raises:
        ConfigError: for a table that does not read, a column that is missing, a file that is not there or has
            two labels, or a split of another name.
    """
    table = root / LABELS_FILE
    folders, _ = visible(root, LeftOut())
    inside = root / folders[0] if len(folders) == 1 else root
    splits: dict[str, list[tuple[Path, str]]] = {}
    labels: dict[Path, str] = {}
    missing: list[str] = []
    for line, row in _rows(table):
        path = next((p for p in (root / row["file"], inside / row["file"]) if p.is_file()), None)
        if path is None:
            missing.append(row["file"])
            continue
        if labels.setdefault(path, row["label"]) != row["label"]:
            raise ConfigError(
                f"{table}: line {line}: {row['file']} is {row['label']!r}, before it was {labels[path]!r}"
            )
        name = row.get("split", "train").lower()
        split = next((s for s, names in split_names.items() if name in names), None)
        if split is None:
            raise ConfigError(f"{table}: line {line}: split {row['split']!r} is none of train, val and test")
        splits.setdefault(split, []).append((path, row["label"]))
    if missing:
        shown = ", ".join(missing[:MOST_NAMED]) + (", ..." if len(missing) > MOST_NAMED else "")
        raise ConfigError(f"{table}: {counted(len(missing), 'file')} in it cannot be found: {shown}")
    if "train" not in splits:
        raise ConfigError(f"{table} names no image to train on")
    unnamed = len(set(pictures_under(root, left_out)) - labels.keys())
    if unnamed:
        left_out.add(f"that {LABELS_FILE} does not name", unnamed)
    return {split: sorted(set(members)) for split, members in splits.items()}


def _rows(table: Path) -> list[tuple[int, dict[str, str]]]:
    """Returns each line's number and its cells, by our names of the columns."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            rows = [(reader.line_num, cells) for cells in reader if any(cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{table} does not read as a table ({error})") from None
    places = {
        column: next((i for i, cell in enumerate(header) if cell.strip().lower() in names), None)
        for column, names in COLUMNS.items()
    }
    if places["file"] is None or places["label"] is None:
        raise ConfigError(
            f"{table}: the first line names the columns: file and label are needed, "
            f"it has {', '.join(header) or 'nothing'}"
        )
    found = []
    for line, cells in rows:
        row = {c: cells[i].strip() for c, i in places.items() if i is not None and i < len(cells)}
        if not row.get("file") or not row.get("label"):
            raise ConfigError(f"{table}: line {line}: a file and a label are needed")
        found.append((line, row))
    return found
