"""The user's own images: `train/CLASS/*`, and `val/`, `test/` of that form if there are any; or `CLASS/*`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinytl.data.pictures import images_in
from tinytl.data.sets.listing import Listing, image_files
from tinytl.data.splits import DataSplits, three_way, two_way
from tinytl.errors import ConfigError


def load_imagefolder(data_dir: str | None, side: int) -> DataSplits:
    """Returns the files of a folder in splits, to be decoded at `side` pixels.

    Crops keep 70 %: in the few epochs of a search, smaller ones cost accuracy (docs/architecture.md).
    """
    listing = list_imagefolder(data_dir, side)
    train, val, test = listing.train, listing.val, listing.test
    if val is None and test is None:
        train, val, test = three_way(train)
    elif val is None:
        train, val = two_way(train)
    name = Path(data_dir or "").expanduser().resolve().name
    return DataSplits(name, listing.classes, train, val, test, crop_scale_min=0.7, flip=True)


def list_imagefolder(data_dir: str | None, side: int) -> Listing:
    """Lists a folder without opening an image.

    Raises:
        ConfigError: for a folder that is missing, empty, or has one class; for a class with too few images to
            split, or that has no training images.
    """
    if data_dir is None:
        raise ConfigError(
            "dataset imagefolder needs --data-dir, a folder with train/CLASS/*.jpg or CLASS/*.jpg"
        )
    root = Path(data_dir).expanduser()
    if not root.is_dir():
        raise ConfigError(f"--data-dir {data_dir}: no such folder")
    train_dir = root / "train" if (root / "train").is_dir() else root
    classes = class_names(train_dir)
    if len(classes) < 2:
        held = f"only one class ({classes[0]})" if classes else "no class folder with images"
        raise ConfigError(f"--data-dir {data_dir}: {held} under {train_dir}; two classes are needed at least")
    splits = {"train": list_split(train_dir, classes)}
    if train_dir != root:
        for name in ("val", "test"):
            if (root / name).is_dir():
                splits[name] = list_split(root / name, classes)
                if not splits[name]:
                    raise ConfigError(f"--data-dir {data_dir}: {root / name} has no images")
    if "val" not in splits:
        needed = 2 if "test" in splits else 3
        counts = np.bincount([label for _, label in splits["train"]], minlength=len(classes))
        for name, count in zip(classes, counts, strict=True):
            if count < needed:
                raise ConfigError(
                    f"--data-dir {data_dir}: class {name} has {count} image(s); without a val folder each "
                    f"class needs at least {needed}, one for each split"
                )
    files = {
        name: image_files(root, ((str(path.relative_to(root)), label) for path, label in members), side)
        for name, members in splits.items()
    }
    return Listing(classes, files["train"], files.get("val"), files.get("test"))


def class_names(folder: Path) -> tuple[str, ...]:
    """Returns the folders under `folder` that hold images."""
    return tuple(sorted(d.name for d in folder.iterdir() if d.is_dir() and images_in(d)))


def list_split(folder: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    """Returns the images under `folder/CLASS` with the class's number.

    Raises:
        ConfigError: for a class that `classes` lacks.
    """
    unknown = sorted(set(class_names(folder)) - set(classes))
    if unknown:
        raise ConfigError(f"{folder} has class {unknown[0]}, which the training images do not have")
    return [
        (path, label)
        for label, name in enumerate(classes)
        if (folder / name).is_dir()
        for path in images_in(folder / name)
    ]
