"""Food-101: 75,750 training and 25,250 test photographs of dishes in 101 classes.

Source: Bossard, Guillaumin, Van Gool, "Food-101 - Mining Discriminative Components with Random Forests", ECCV
2014; the images are their photographers', for scientific use. Read by torchvision's class.
"""

import json
from pathlib import Path
from typing import Any

from tinytl.data.sets.archive import extract
from tinytl.data.sets.download import Download
from tinytl.data.sets.listing import Listing, image_files
from tinytl.data.sets.named_set import NamedSet, Report, naming_what_is_broken
from tinytl.data.sets.under_name import under_name
from tinytl.errors import needs_extra

ARCHIVE = "food-101.tar.gz"
FOLDER = "food-101"


def _is_there(root: Path) -> bool:
    return _is_set(root) or (root / FOLDER).is_dir() or (root / ARCHIVE).is_file()


def _is_set(folder: Path) -> bool:
    return (folder / "meta").is_dir() and (folder / "images").is_dir()


def _read(root: Path, side: int, report: Report) -> Listing:
    with needs_extra("dataset food101", "torchvision"):
        from torchvision.datasets import Food101

    folder = root
    if not _is_set(root):
        folder = root / FOLDER
        if not folder.is_dir():
            extract(root / ARCHIVE, folder, report)
    tables = {folder / "meta" / f"{split}.json": _json for split in ("train", "test")}
    with naming_what_is_broken(folder, tables), under_name(folder, FOLDER) as parent:
        splits, classes = {}, {}
        for split in ("train", "test"):
            read = Food101(parent, split)
            start = parent / FOLDER
            names = (str(Path(path).relative_to(start)) for path in read._image_files)
            splits[split] = image_files(folder, zip(names, read._labels, strict=True), side)
            classes[split] = tuple(read.classes)
        if classes["train"] != classes["test"]:
            raise ValueError("train.json and test.json name different classes")
        return Listing(classes["train"], splits["train"], test=splits["test"])


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


FOOD101 = NamedSet(
    name="food101",
    title="Food-101",
    n_classes=101,
    contents=f"{ARCHIVE} or its folder {FOLDER}",
    downloads=(
        Download(
            file=ARCHIVE,
            url=f"http://data.vision.ee.ethz.ch/cvl/{ARCHIVE}",
            md5="85eeb15f3717b99a5da872d97d918f87",
        ),
    ),
    how_to_get=f"--download fetches it, or put {ARCHIVE} there",
    is_there=_is_there,
    read=_read,
)
