"""ImageNet (ILSVRC 2012): 1,281,167 training and 50,000 validation images in 1,000 classes.

Source: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015; for non-commercial
research, from https://image-net.org after registration. The labels of its test images are not published, so
there is no test split.

torchvision's ImageNet requires the published checksums and writes beside the archives; here its base class
ImageFolder reads the extracted images. Classes have WordNet's numbers as names, because two cranes and two
maillots share their English names.
"""

import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinytl.data.sets.archive import extraction, open_tar
from tinytl.data.sets.listing import Listing, image_files
from tinytl.data.sets.named_set import NamedSet, Report, naming_what_is_broken
from tinytl.data.splits import ImageFiles
from tinytl.errors import ConfigError, needs_extra

TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
DEVKIT, DEVKIT_FOLDER = "ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_devkit_t12"
HOW_TO_GET = f"register at https://image-net.org/download and put {TRAIN}, {VAL} and {DEVKIT} there"


def _is_there(root: Path) -> bool:
    return (root / "train").is_dir() or (root / TRAIN).is_file()


def _read(root: Path, side: int, report: Report) -> Listing:
    if not (root / "train").is_dir():
        _extract_train(root / TRAIN, root / "train", report)
    if not (root / "val").is_dir():
        for needed in (VAL, DEVKIT):
            if not (root / needed).is_file():
                raise ConfigError(f"{root} has neither {needed} nor a folder val: {HOW_TO_GET}")
        _extract_val(root / VAL, root / DEVKIT, root / "val", report)
    classes, train = _folders(root, "train", side)
    val_classes, val = _folders(root, "val", side)
    if classes != val_classes:
        odd = sorted(set(classes) ^ set(val_classes))[0]
        raise ConfigError(f"{root}: class {odd} is in one of train and val alone: give both as published")
    return Listing(classes, train, val)


def _folders(root: Path, split: str, side: int) -> tuple[tuple[str, ...], ImageFiles]:
    with needs_extra("dataset imagenet", "torchvision"):
        from torchvision.datasets import ImageFolder

    with naming_what_is_broken(root / split, {}):
        read = ImageFolder(root / split)
    members = ((str(Path(path).relative_to(root)), label) for path, label in read.samples)
    return tuple(read.classes), image_files(root, members, side)


def _extract_train(archive: Path, folder: Path, report: Report) -> None:
    """Extracts an archive of an archive for each class."""
    with extraction(archive, folder, report) as partial:
        if partial is None:
            return
        with open_tar(archive) as outer:
            for member in outer:
                if not member.isfile() or not member.name.endswith(".tar"):
                    raise tarfile.ReadError(f"{member.name} is no class's archive")
                inner = outer.extractfile(member)
                assert inner is not None
                with open_tar(inner) as tar:
                    tar.extractall(partial / Path(member.name).stem, filter="data")


def _extract_val(archive: Path, devkit: Path, folder: Path, report: Report) -> None:
    """Extracts images into a folder for each class, which the devkit names."""
    class_ids = _val_class_ids(devkit)
    with extraction(archive, folder, report) as partial:
        if partial is None:
            return
        with open_tar(archive) as tar:
            for member in tar:
                if not member.isfile():
                    continue
                # ILSVRC2012_val_00000001.JPEG is the first line of the ground truth.
                number = int(Path(member.name).stem.rpartition("_")[2])
                if not 1 <= number <= len(class_ids):
                    raise ConfigError(f"{archive}: {member.name} has no line in {devkit}: get both again")
                tar.extract(member, partial / class_ids[number - 1], filter="data")


def _val_class_ids(devkit: Path) -> Sequence[str]:
    """Returns the WordNet number of each validation image, from the development kit."""
    from scipy.io import loadmat

    def read(path: Path) -> list[str]:
        with open_tar(path) as tar:
            files: dict[str, Any] = {
                Path(member.name).name: tar.extractfile(member) for member in tar if member.isfile()
            }
            synsets = loadmat(files["meta.mat"], squeeze_me=True)["synsets"]
            lines = files["ILSVRC2012_validation_ground_truth.txt"].read().split()
        by_number = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
        return [by_number[int(line)] for line in lines]

    class_ids: list[str] = []
    with naming_what_is_broken(devkit, {devkit: read}):
        class_ids = read(devkit)
    return class_ids


IMAGENET = NamedSet(
    name="imagenet",
    title="ImageNet",
    n_classes=1000,
    contents=f"{TRAIN} or a folder train",
    how_to_get=HOW_TO_GET,
    is_there=_is_there,
    read=_read,
)
