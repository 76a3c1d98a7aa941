"""CUB-200-2011: 5,994 training and 5,794 test images of birds in 200 species.

Source: Wah, Branson, Welinder, Perona, Belongie, "The Caltech-UCSD Birds-200-2011 Dataset", 2011; for
non-commercial research and education. torchvision has no class for it.
"""

from pathlib import Path

from tinytl.data.sets.archive import extract
from tinytl.data.sets.download import Download
from tinytl.data.sets.listing import Listing, image_files
from tinytl.data.sets.named_set import NamedSet, Report, naming_what_is_broken

ARCHIVE = "CUB_200_2011.tgz"
FOLDER = "CUB_200_2011"
TABLES = ("classes.txt", "images.txt", "image_class_labels.txt", "train_test_split.txt")


def _is_there(root: Path) -> bool:
    return (root / TABLES[1]).is_file() or (root / FOLDER).is_dir() or (root / ARCHIVE).is_file()


def _read(root: Path, side: int, report: Report) -> Listing:
    folder = root
    if not (root / TABLES[1]).is_file():
        folder = root / FOLDER
        if not folder.is_dir():
            extract(root / ARCHIVE, folder, report)
    with naming_what_is_broken(folder, {folder / name: _table for name in TABLES}):
        classes, images, labels, is_train = (_table(folder / name) for name in TABLES)
        if not images.keys() == labels.keys() == is_train.keys():
            raise ValueError(f"{', '.join(TABLES[1:])} do not name the same images")
        number = {key: i for i, key in enumerate(classes)}
        splits: dict[str, list[tuple[str, int]]] = {"0": [], "1": []}
        for key, path in images.items():
            splits[is_train[key]].append((f"images/{path}", number[labels[key]]))
        return Listing(
            tuple(classes.values()),
            image_files(folder, splits["1"], side),
            test=image_files(folder, splits["0"], side),
        )


def _table(path: Path) -> dict[str, str]:
    """Reads lines of a number and a value."""
    rows: dict[str, str] = {}
    for line in path.read_text().splitlines():
        key, value = line.split(maxsplit=1)
        rows[key] = value.strip()
    return rows


CUB200 = NamedSet(
    name="cub200",
    title="CUB-200-2011",
    n_classes=200,
    contents=f"{ARCHIVE} or its folder {FOLDER}",
    downloads=(
        Download(
            file=ARCHIVE,
            url=f"https://data.caltech.edu/records/65de6-vp158/files/{ARCHIVE}",
            md5="97eceeb196236b17998738112f37df78",
        ),
    ),
    how_to_get=f"--download fetches it, or put {ARCHIVE} there",
    is_there=_is_there,
    read=_read,
)
