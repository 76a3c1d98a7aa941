"""The user's own images: a folder per class, in a folder per split if there are any, or with a `labels.csv`.

What a folder holds is read once, by `list_imagefolder`; whatever is left aside is counted and said.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tinytl.data.sets.labels_csv import LABELS_FILE, read_labels
from tinytl.data.sets.listing import Listing, image_files
from tinytl.data.splits import DataSplits, ImageFiles, in_words, parts_of, three_way, two_way
from tinytl.data.walk import LeftOut, ending_of, picture_endings, pictures_under, visible
from tinytl.errors import ConfigError, without_controls

SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""What folders of splits are called, in any case."""
MOST_NAMED = 12
"""Classes that a line names."""
Members = list[tuple[Path, str]]
"""Pictures of a split with the name of their class's folder."""


def load_imagefolder(data_dir: str | None, side: int) -> DataSplits:
    """Returns the files of a folder in splits, to be decoded at `side` pixels.

    If the folder has no val split, a class with one image has it in train alone; with two, one is left to
    train if test images are to be made, too.

    Crops keep 70 %: in the few epochs of a search, smaller ones cost accuracy (docs/architecture.md).

    Raises:
        ConfigError: as `list_imagefolder`.
    """
    listing = list_imagefolder(data_dir, side)
    train, val, test = listing.train, listing.val, listing.test
    if val is None and test is None:
        train, val, test = three_way(train)
    elif val is None:
        train, val = two_way(train)
    name = printable(Path(data_dir or "").expanduser().resolve().name)
    splits = DataSplits(name, listing.classes, train, val, test, crop_scale_min=0.7, flip=True)
    parts = parts_of(splits)
    n_images = sum(map(len, parts.values()))
    account = f"{name}: {n_images:,} images of {_named(listing.classes)}: {in_words(parts)}"
    if listing.left_out:
        account += f"; left out: {listing.left_out}"
    return replace(splits, account=account)


def list_whole(data_dir: str, classes: Sequence[str], side: int, min_per_class: int = 0) -> ImageFiles | None:
    """Lists all images of a folder of classes, to be judged by a network that knows `classes`.

    The folder may have some of the classes alone. Returns None if it has splits, or no folders of classes.

    Raises:
        ConfigError: for a folder that is missing, or has a class of `min_per_class` images or more that the
            network does not know; smaller ones are left out.
    """
    root = _existing(data_dir)
    layout = _layout(root, LeftOut())
    if layout.splits or _is_labelled_by_table(layout):
        return None
    members = _members(root, LeftOut(), layout.folders)
    numbers = {name: number for number, name in enumerate(classes)}
    sizes = Counter(name for _, name in members)
    members = [(p, name) for p, name in members if printable(name) in numbers or sizes[name] >= min_per_class]
    if not members:
        return None
    unknown = next((name for _, name in members if printable(name) not in numbers), None)
    if unknown is not None:
        raise ConfigError(f"--data-dir {data_dir}: class {printable(unknown)} is none of the network's")
    named = [(str(path.relative_to(root)), numbers[printable(name)]) for path, name in members]
    return image_files(root, named, side)


def _existing(data_dir: str) -> Path:
    root = Path(data_dir).expanduser()
    if not root.is_dir():
        raise ConfigError(f"--data-dir {data_dir}: no such folder")
    return root


def list_imagefolder(data_dir: str | None, side: int) -> Listing:
    """Lists a folder without opening an image.

    Raises:
        ConfigError: for a folder that is missing, empty, or has one class; for a class with files of which
            none is an image, or that has no training images; if no class has enough of them to be validated.
    """
    if data_dir is None:
        raise ConfigError(
            "dataset imagefolder needs --data-dir, a folder with train/CLASS/*.jpg or CLASS/*.jpg"
        )
    root = _existing(data_dir)
    left_out = LeftOut()
    layout = _layout(root, left_out)
    if _is_labelled_by_table(layout):
        splits = read_labels(root, SPLIT_NAMES, left_out)
        return _listing(root, root, data_dir, splits, left_out, side)
    if layout.files:
        left_out.add("outside class folders", len(layout.files))
    if not layout.splits:
        splits = {"train": _members(root, left_out, layout.folders)}
        return _listing(root, root, data_dir, splits, left_out, side)
    for name in layout.folders:
        left_out.add(f"folder {printable(name)} that is no split")
    splits = {split: _members(root / name, left_out) for split, name in layout.splits.items()}
    for split, name in layout.splits.items():
        if split != "train" and not splits[split]:
            raise ConfigError(f"--data-dir {data_dir}: {root / name} has no images")
    return _listing(root, root / layout.splits["train"], data_dir, splits, left_out, side)


@dataclass(frozen=True)
class _Layout:
    """The names in a data set's folder: of each split, of the other folders, of the files."""

    splits: dict[str, str]
    folders: list[str]
    files: list[str]


def _layout(root: Path, left_out: LeftOut) -> _Layout:
    """Reads the names in `root`. A folder train is a split, unless it has images and no folders: then it and
    the others are classes.

    Raises:
        ConfigError: for two folders of one split, for splits without a folder train, or for training or
            validation images without folders of classes.
    """
    folders, files = visible(root, left_out)
    named = {name: split for name in folders if (split := _split_of(name)) is not None}
    inside = {name: visible(root / name, LeftOut()) for name in named}
    flat = [name for name in named if inside[name][1] and not inside[name][0]]
    if not any(split == "train" and name not in flat for name, split in named.items()):
        split = next((name for name in named if inside[name][0]), None)
        if split is not None:
            raise ConfigError(
                f"{root / split} holds folders of images, as a split does, but {root} has no folder train of "
                "that kind: name the folder of the training images train, with a folder per class"
            )
        return _Layout({}, folders, files)
    splits: dict[str, str] = {}
    for name, split in named.items():
        if name in flat and split == "test":
            left_out.add(f"in {printable(name)}, which has no folders of classes", len(inside[name][1]))
        elif name in flat:
            raise ConfigError(
                f"{root / name} has images but no folders of classes: sort them, or move it away"
            )
        elif split in splits:
            raise ConfigError(
                f"{root} has two folders for {split}, {splits[split]} and {name}: merge or move one away"
            )
        else:
            splits[split] = name
    return _Layout(splits, [name for name in folders if name not in named], files)


def _split_of(name: str) -> str | None:
    return next((split for split, names in SPLIT_NAMES.items() if name.lower() in names), None)


def _is_labelled_by_table(layout: _Layout) -> bool:
    """Whether `labels.csv` has the labels: it lies beside images, or beside one folder of them."""
    beside_images = any(ending_of(name) in picture_endings() for name in layout.files)
    return LABELS_FILE in layout.files and not layout.splits and (beside_images or len(layout.folders) < 2)


def _members(folder: Path, left_out: LeftOut, names: Iterable[str] | None = None) -> Members:
    """Returns the images under `folder/CLASS`, of each class or of those in `names`.

    Raises:
        ConfigError: for a class that has files, and none of them an image.
    """
    if names is None:
        names, files = visible(folder, left_out)
        if files:
            left_out.add("outside class folders", len(files))
    members: Members = []
    for name in names:
        beside = LeftOut()
        pictures = pictures_under(folder / name, beside)
        members += [(path, name) for path in pictures]
        if not pictures and beside.has_files:
            raise ConfigError(
                f"{folder / name}: none of its files is an image that Pillow opens ({beside}): convert them, "
                "or move the folder away"
            )
        if not pictures:
            left_out.add(f"empty folder ({printable(name)})")
        left_out.take_in(beside)
    return members


def _listing(
    root: Path,
    train_dir: Path,
    data_dir: str,
    splits: Mapping[str, Members],
    left_out: LeftOut,
    side: int,
) -> Listing:
    """Numbers the classes; checks that each has training images, and that there will be validation images."""
    folders = sorted({name for _, name in splits["train"]})
    if len(folders) < 2:
        raise ConfigError(f"--data-dir {data_dir}: {_too_few(train_dir, folders)}")
    numbers = {name: number for number, name in enumerate(folders)}
    classes = tuple(map(printable, folders))
    if len(set(classes)) < len(classes):
        raise ConfigError(f"--data-dir {data_dir}: two folders of classes have names that look alike")
    for members in splits.values():
        unknown = next((name for _, name in members if name not in numbers), None)
        if unknown is not None:
            folder = next(path for path, name in members if name == unknown).parent.parent
            raise ConfigError(f"{folder} has class {unknown}, which the training images do not have")
    if "val" not in splits:
        needed = 2 if "test" in splits else 3
        if max(Counter(name for _, name in splits["train"]).values()) < needed:
            raise ConfigError(
                f"--data-dir {data_dir}: no class has the {needed} images that it needs to be trained and "
                "validated: add pictures, or a folder val"
            )
    files = {
        split: image_files(
            root, ((str(path.relative_to(root)), numbers[name]) for path, name in members), side
        )
        for split, members in splits.items()
    }
    return Listing(classes, files["train"], files.get("val"), files.get("test"), str(left_out))


def _too_few(root: Path, classes: list[str]) -> str:
    held = f"only one class ({classes[0]})" if classes else "no class folder with images"
    inner = root
    while True:
        folders, files = visible(inner, LeftOut())
        if inner != root and (len(folders) > 1 or any(map(_split_of, folders))):
            return f"{held} under {root}: did you mean --data-dir {inner}?"
        if len(folders) != 1:
            break
        inner = inner / folders[0]
    remedy = "two classes are needed at least"
    if any(ending_of(name) in picture_endings() for name in files):
        remedy += f": sort the images into a folder per class, or add {LABELS_FILE} (file,label)"
    return f"{held} under {root}; {remedy}"


def _named(classes: tuple[str, ...]) -> str:
    shown = ", ".join(classes[:MOST_NAMED])
    rest = f" and {len(classes) - MOST_NAMED} more" if len(classes) > MOST_NAMED else ""
    return f"{len(classes)} classes ({shown}{rest})"


def printable(name: str) -> str:
    """Returns a folder's name as text that can be written anywhere: other bytes and controls as escapes."""
    return without_controls(os.fsencode(name).decode("utf-8", "backslashreplace"))
