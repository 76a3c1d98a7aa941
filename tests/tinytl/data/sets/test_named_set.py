"""Each published set, read from small archives in its format; and what can be wrong with them."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.cases import small
from tests.support.published_sets import COLORS, WRITERS
from tests.support.sampled import sampled
from tinytl.config.train_config import TrainConfig
from tinytl.data.load import DataSplits, Split, check_data_dir, load_dataset
from tinytl.data.sets import NAMED_SETS
from tinytl.data.splits import ImageSet
from tinytl.errors import ConfigError

SIZES = {
    "cifar10": (40, 10, 10),
    "cifar100": (200, 100, 100),
    "cub200": (200, 200, 200),
    "cars": (196, 196, 196),
    "food101": (101, 101, 101),
    "imagenet": (1000, 1000, None),
}
FIRST_CLASSES = {"cifar10": "class 0", "cub200": "001.Bird_0", "cars": "Car 0 2012", "food101": "dish_000"}
FOLDERS = {
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "cub200": "CUB_200_2011",
    "food101": "food-101",
}
"""The one folder of the sets that have one."""


def config_of(name: str, folder: Path, **changes: Any) -> TrainConfig:
    return small(**{"dataset": name, "data_dir": str(folder), "num_classes": None} | changes)


def contents(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _colors_tell_labels(part: Split) -> bool:
    assert isinstance(part, ImageSet)
    means = part.images.mean(axis=(1, 2))
    return np.abs(means - np.array(COLORS)[part.labels % 3]).max() < 4  # JPEG


def _same(one: DataSplits, other: DataSplits) -> bool:
    pairs = [(one.train, other.train), (one.val, other.val), (one.test, other.test)]
    return all(
        a is b is None or (np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels))
        for a, b in pairs
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns the folder of a set's archives: of each set once, to be copied."""

    @functools.cache
    def write(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        WRITERS[name](folder)
        return folder

    return write


@pytest.fixture(scope="module")
def extracted(
    tmp_path_factory: pytest.TempPathFactory, written: Callable[[str], Path]
) -> Callable[[str], Path]:
    """Returns the folder of a set that was read once, with its archives: of each set once, to be copied."""

    @functools.cache
    def extract(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name) / "data"
        shutil.copytree(written(name), folder)
        load_dataset(config_of(name, folder))
        return folder

    return extract


@pytest.mark.parametrize("name", WRITERS)
def test_archives_as_published(name: str, written: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(written(name), tmp_path, dirs_exist_ok=True)
    archives = contents(tmp_path)
    config = config_of(name, tmp_path)
    check_data_dir(config)
    assert contents(tmp_path) == archives
    lines: list[str] = []
    data = load_dataset(config, report=lines.append)
    assert (data.name, len(data.classes), len(set(data.classes))) == (name, *[NAMED_SETS[name].n_classes] * 2)
    assert tuple(part and len(part) for part in (data.train, data.val, data.test)) == SIZES[name]
    for part in (data.train, data.val, data.test):
        if part is not None:
            assert sorted(set(part.labels)) == list(range(len(data.classes)))
            assert _colors_tell_labels(part)
    assert data.classes[0] == FIRST_CLASSES.get(name, data.classes[0])
    assert data.flip and data.crop_scale_min == 0.7
    assert archives < contents(tmp_path) and not [n for n in contents(tmp_path) if "partial" in n]
    assert lines and all(line.startswith(f"extracting {tmp_path}") for line in lines)

    # A second time nothing is extracted: the archives are not needed any more.
    for archive in archives - {"cars_test_annos_withlabels.mat"}:
        (tmp_path / archive).unlink()
    check_data_dir(config)
    assert _same(load_dataset(config, report=pytest.fail), data)


@pytest.mark.parametrize("name", sampled(FOLDERS, 3))
def test_the_folder_itself_under_any_name(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    data = load_dataset(config_of(name, tmp_path))
    (tmp_path / FOLDERS[name]).rename(tmp_path / "mine")
    assert _same(load_dataset(config_of(name, tmp_path / "mine")), data)


def test_cars_in_the_folder_that_torchvision_makes(tmp_path: Path) -> None:
    WRITERS["cars"](tmp_path / "stanford_cars")
    data = load_dataset(config_of("cars", tmp_path))
    assert _same(load_dataset(config_of("cars", tmp_path / "stanford_cars")), data)


@pytest.mark.parametrize("name", sampled(WRITERS, 3))
def test_another_number_of_classes(name: str, tmp_path: Path) -> None:
    wrong = NAMED_SETS[name].n_classes - 1
    WRITERS[name](tmp_path, n_classes=wrong)
    with pytest.raises(ConfigError) as caught:
        load_dataset(config_of(name, tmp_path))
    assert f"{tmp_path} holds {wrong} classes, {NAMED_SETS[name].title} has {wrong + 1}" in str(caught.value)


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_without_the_set_says_how_to_get_it(name: str, tmp_path: Path) -> None:
    for folder, complaint in ((tmp_path, "holds no"), (tmp_path / "nowhere", "no such folder")):
        for call in (check_data_dir, load_dataset):
            with pytest.raises(ConfigError) as caught:
                call(config_of(name, folder))
            assert complaint in str(caught.value) and "\n" not in str(caught.value)
            assert "put " in str(caught.value)
            assert ("--download" in str(caught.value)) == bool(NAMED_SETS[name].downloads)
    with pytest.raises(ConfigError, match=f"^dataset {name} needs --data-dir, a folder with .* put "):
        check_data_dir(small(dataset=name, num_classes=None))
    assert contents(tmp_path) == set()


ARCHIVES = {
    "cifar10": ["cifar-10-python.tar.gz"],
    "cub200": ["CUB_200_2011.tgz"],
    "cars": ["cars_train.tgz", "car_devkit.tgz"],
    "food101": ["food-101.tar.gz"],
    "imagenet": ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"],
}


@pytest.mark.parametrize(
    ("name", "archive", "damage"),
    sampled(
        [(n, a, d) for n, files in ARCHIVES.items() for a in files for d in ("cut", "flipped", "text")], 7
    ),
)
def test_a_damaged_archive_is_named_and_left(
    written: Callable[[str], Path], tmp_path: Path, name: str, archive: str, damage: str
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(written(name), folder)
    broken = folder / archive
    content = bytearray(broken.read_bytes())
    if damage == "cut":
        content = content[: 2 * len(content) // 3]
    elif damage == "flipped":
        # A tar without compression has checksums in its headers alone: some of those must be hit.
        middle = slice(len(content) // 2, len(content) // 2 + (12_000 if archive.endswith(".tar") else 100))
        content[middle] = bytes(255 - byte for byte in content[middle])
    else:
        content = bytearray(b"<html>not found</html>")
    broken.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_dataset(config_of(name, folder))
    assert str(caught.value).startswith(f"{broken} ") and "\n" not in str(caught.value)
    assert broken.read_bytes() == content
    assert not [n for n in contents(folder) if "partial" in n]


@pytest.mark.parametrize(
    ("name", "file"),
    sampled(
        [
            ("cub200", "CUB_200_2011/images.txt"),
            ("cars", "devkit/cars_train_annos.mat"),
            ("food101", "food-101/meta/test.json"),
            ("cars", "cars_test_annos_withlabels.mat"),
        ],
        3,
    ),
)
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_table_is_named(
    extracted: Callable[[str], Path], tmp_path: Path, name: str, file: str, damage: str
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(extracted(name), folder)
    broken = folder / file
    if damage == "cut":
        broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    else:
        broken.unlink()
    with pytest.raises(ConfigError) as caught:
        load_dataset(config_of(name, folder))
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
    assert broken.name in str(caught.value) or damage == "cut"


@pytest.mark.parametrize("loading", ["memory", "stream"])
@pytest.mark.parametrize("damage", ["gone", "empty"])
def test_an_image_that_is_missing_or_empty_is_named(
    extracted: Callable[[str], Path], tmp_path: Path, damage: str, loading: str
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(extracted("food101"), folder)
    config = config_of("food101", folder, loading=loading)
    broken = folder / "food-101" / "images" / "dish_007" / "1.jpg"
    broken.unlink() if damage == "gone" else broken.write_bytes(b"")
    with pytest.raises(ConfigError) as caught:
        load_dataset(config)
    assert str(broken) in str(caught.value)


def test_what_a_killed_extraction_left_is_replaced(tmp_path: Path) -> None:
    WRITERS["cub200"](tmp_path)
    left = tmp_path / "CUB_200_2011.partial" / "CUB_200_2011"
    left.mkdir(parents=True)
    (left / "images.txt").write_text("1 nothing.jpg\n")
    assert len(load_dataset(config_of("cub200", tmp_path)).train) == 200
    assert contents(tmp_path) == {"CUB_200_2011.tgz", "CUB_200_2011"}


@pytest.mark.parametrize(
    ("name", "part"), sampled([("cars", "cars_test.tgz"), ("imagenet", "ILSVRC2012_devkit_t12.tar.gz")], 2)
)
def test_a_missing_part_is_named(tmp_path: Path, name: str, part: str) -> None:
    WRITERS[name](tmp_path)
    (tmp_path / part).unlink()
    with pytest.raises(ConfigError, match=f"has neither {part} nor"):
        load_dataset(config_of(name, tmp_path))
