"""Stanford Cars: 8,144 training and 8,041 test images of cars in 196 classes.

Source: Krause, Stark, Deng, Fei-Fei, "3D Object Representations for Fine-Grained Categorization", 3dRR 2013;
for non-commercial research. Read by torchvision's class. Its authors' page is gone, so nothing can be
downloaded.
"""

from pathlib import Path
from typing import Any

from tinytl.data.sets.archive import extract
from tinytl.data.sets.listing import Listing, image_files
from tinytl.data.sets.named_set import NamedSet, Report, naming_what_is_broken
from tinytl.data.sets.under_name import under_name
from tinytl.errors import ConfigError, needs_extra

FOLDER = "stanford_cars"
ARCHIVES = {"devkit": "car_devkit.tgz", "cars_train": "cars_train.tgz", "cars_test": "cars_test.tgz"}
"""Each folder of the set, and the archive that holds it."""
TEST_LABELS = "cars_test_annos_withlabels.mat"
TABLES = ("devkit/cars_train_annos.mat", TEST_LABELS, "devkit/cars_meta.mat")


def _is_there(root: Path) -> bool:
    return _is_set(root) or _is_set(root / FOLDER)


def _is_set(folder: Path) -> bool:
    return (folder / "devkit").is_dir() or (folder / ARCHIVES["devkit"]).is_file()


def _read(root: Path, side: int, report: Report) -> Listing:
    with needs_extra("dataset cars", "torchvision"):
        from torchvision.datasets import StanfordCars

    folder = root if _is_set(root) else root / FOLDER
    for name, archive in ARCHIVES.items():
        if not (folder / name).is_dir():
            if not (folder / archive).is_file():
                raise ConfigError(f"{folder} has neither {archive} nor its folder {name}: {HOW_TO_GET}")
            extract(folder / archive, folder / name, report)
    readers = {folder / table: _mat for table in TABLES}
    with naming_what_is_broken(folder, readers), under_name(folder, FOLDER) as parent:
        splits = {}
        for split in ("train", "test"):
            read = StanfordCars(parent, split)
            start = parent / FOLDER
            members = ((str(Path(path).relative_to(start)), int(label)) for path, label in read._samples)
            splits[split] = image_files(folder, members, side)
        return Listing(tuple(map(str, read.classes)), splits["train"], test=splits["test"])


def _mat(path: Path) -> Any:
    from scipy.io import loadmat

    return loadmat(path, squeeze_me=True)


HOW_TO_GET = (
    f"its authors' page is gone: put {', '.join(ARCHIVES.values())} and {TEST_LABELS} of a copy there "
    "(https://github.com/pytorch/vision/issues/7545)"
)
CARS = NamedSet(
    name="cars",
    title="Stanford Cars",
    n_classes=196,
    contents=f"{ARCHIVES['devkit']} or a folder devkit or {FOLDER}",
    how_to_get=HOW_TO_GET,
    is_there=_is_there,
    read=_read,
)
