"""CIFAR-10 and CIFAR-100: 50,000 training and 10,000 test images of 32x32 pixels, in 10 and 100 classes.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; no licence is stated. Read
by torchvision's classes. The batches are Python pickles, which can run code, so they are read only if they
are the published files, byte for byte.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinytl.data.sets.archive import extract
from tinytl.data.sets.download import Download
from tinytl.data.sets.listing import Listing
from tinytl.data.sets.named_set import NamedSet, Report
from tinytl.data.splits import ImageSet
from tinytl.errors import ConfigError, needs_extra

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
        """torchvision's reader of a folder of any name, whose files have been checked."""

        base_folder = folder.name
        meta = base.meta | {"md5": None}

        def _check_integrity(self) -> bool:
            return True

    check_published(folder, dict([*base.train_list, *base.test_list, (META[name], base.meta["md5"])]))
    train, test = (AsItLies(folder.parent, train=is_train) for is_train in (True, False))
    return Listing(tuple(map(str, test.classes)), _image_set(train), test=_image_set(test))


def check_published(folder: Path, md5s: Mapping[str, str]) -> None:
    """Checks that the files of `folder` are those that were published, before anybody unpickles them.

    Raises:
        ConfigError: naming the first that is missing or another file.
    """
    for name, published in md5s.items():
        path = folder / name
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        except OSError as error:
            raise ConfigError(f"{path} does not read ({error.strerror}): get it again") from None
        if found != published:
            raise ConfigError(
                f"{path} is not the published file (its MD5 is {found}, not {published}) and is a pickle, "
                "which can run code, so it is not read: get it again, or give images in folders with "
                "--dataset imagefolder"
            )


def _image_set(read: Any) -> ImageSet:
    images = np.ascontiguousarray(read.data, dtype=np.uint8)
    return ImageSet(images, np.array(read.targets, dtype=np.int64))


CIFAR10 = _cifar("cifar10", "CIFAR-10", 10, "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a")
CIFAR100 = _cifar("cifar100", "CIFAR-100", 100, "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85")
