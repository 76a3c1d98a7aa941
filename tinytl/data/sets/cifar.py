"""CIFAR-10 and CIFAR-100: 50,000 training and 10,000 test images of 32x32 pixels, in 10 and 100 classes.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; no licence is stated. Read
by torchvision's classes. The batches are Python pickles, which can run code: use only files from a source
that you trust.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from tinytl.data.sets.archive import extract
from tinytl.data.sets.download import Download
from tinytl.data.sets.listing import Listing
from tinytl.data.sets.named_set import NamedSet, Report, naming_what_is_broken
from tinytl.data.splits import ImageSet
from tinytl.errors import needs_extra

URL = "https://www.cs.toronto.edu/~kriz/"
FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
META = {"cifar10": "batches.meta", "cifar100": "meta"}


def _cifar(name: str, title: str, n_classes: int, archive: str, md5: str) -> NamedSet:
    folder = FOLDERS[name]

    def is_there(root: Path) -> bool:
        return (root / META[name]).is_file() or (root / folder).is_dir() or (root / archive).is_file()

    def read(root: Path, side: int, report: Report) -> Listing:
        if (root / META[name]).is_file():
            return _read(root, name)
        if not (root / folder).is_dir():
            extract(root / archive, root / folder, report)
        return _read(root / folder, name)

    return NamedSet(
        name=name,
        title=title,
        n_classes=n_classes,
        contents=f"{archive} or its folder {folder}",
        downloads=(Download(file=archive, url=URL + archive, md5=md5),),
        how_to_get=f"--download fetches it, or put {archive} of {URL}cifar.html there",
        is_there=is_there,
        read=read,
    )


def _read(folder: Path, name: str) -> Listing:
    with needs_extra(f"dataset {name}", "torchvision"):
        from torchvision import datasets

    base = datasets.CIFAR10 if name == "cifar10" else datasets.CIFAR100

    class AsItLies(base):  # type: ignore[misc, valid-type]
        """torchvision's reader without checksums: here it only matters that the files can be read."""

        base_folder = folder.name
        meta = base.meta | {"md5": None}

        def _check_integrity(self) -> bool:
            return True

    names = [file for file, _ in base.train_list + base.test_list]
    with naming_what_is_broken(folder, {folder / file: _unpickled for file in [*names, META[name]]}):
        train, test = (_image_set(AsItLies(folder.parent, train=is_train)) for is_train in (True, False))
        classes = AsItLies(folder.parent, train=False).classes
        return Listing(tuple(map(str, classes)), train, test=test)


def _image_set(read: Any) -> ImageSet:
    images = np.ascontiguousarray(read.data, dtype=np.uint8)
    labels = np.array(read.targets, dtype=np.int64)
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images, {len(labels)} labels")
    return ImageSet(images, labels)


def _unpickled(path: Path) -> Any:
    with path.open("rb") as file:
        return pickle.load(file, encoding="latin1")


CIFAR10 = _cifar("cifar10", "CIFAR-10", 10, "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a")
CIFAR100 = _cifar("cifar100", "CIFAR-100", 100, "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85")
