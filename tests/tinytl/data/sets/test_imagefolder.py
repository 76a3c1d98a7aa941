import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.cases import small
from tinytl.config.train_config import TrainConfig
from tinytl.data.load import DataSplits, ImageSet, check_data_dir, load_dataset
from tinytl.errors import ConfigError

MakeFolder = Callable[..., Path]


def _config(root: Path | None, **changes: object) -> TrainConfig:
    data_dir = None if root is None else str(root)
    return small(dataset="imagefolder", data_dir=data_dir, num_classes=None, **changes)


def _sizes(data: DataSplits) -> dict[str, int | None]:
    parts = {"train": data.train, "val": data.val, "test": data.test}
    return {name: None if part is None else len(part) for name, part in parts.items()}


def _counts(part: ImageSet | None) -> list[int]:
    assert part is not None
    return np.bincount(part.labels).tolist()


def test_folders_for_every_split(make_imagefolder: MakeFolder) -> None:
    root = make_imagefolder(
        {"train/red": 3, "train/blue": 2, "val/red": 1, "val/blue": 2, "test/red": 2, "test/blue": 1}
    )
    data = load_dataset(_config(root))
    assert (data.name, data.classes, data.flip) == ("pictures", ("blue", "red"), True)
    assert data.test is not None
    assert data.train.labels.tolist() == [0, 0, 1, 1, 1]
    assert data.val.labels.tolist() == [0, 0, 1]
    assert data.test.labels.tolist() == [0, 1, 1]
    # Pictures of a folder differ by one in every channel, in the order of their names.
    assert data.train.images[:, 0, 0].tolist() == [
        [30, 40, 220],
        [31, 41, 221],
        [220, 30, 30],
        [221, 31, 31],
        [222, 32, 32],
    ]


def test_without_val_it_is_split_from_train(make_imagefolder: MakeFolder) -> None:
    root = make_imagefolder({"train/red": 10, "train/blue": 5, "test/red": 1, "test/blue": 1})
    data = load_dataset(_config(root))
    assert [_counts(part) for part in (data.train, data.val, data.test)] == [[4, 8], [1, 2], [1, 1]]


@pytest.mark.parametrize("prefix", ["", "train/"])
def test_one_folder_becomes_three_splits(make_imagefolder: MakeFolder, prefix: str) -> None:
    root = make_imagefolder({f"{prefix}red": 10, f"{prefix}green": 10, f"{prefix}blue": 3})
    data = load_dataset(_config(root))
    assert data.classes == ("blue", "green", "red")
    assert [_counts(part) for part in (data.train, data.val, data.test)] == [[1, 6, 6], [1, 2, 2], [1, 2, 2]]
    assert data.test is not None
    pixels = [tuple(p) for part in (data.train, data.val, data.test) for p in part.images[:, 0, 0].tolist()]
    assert len(set(pixels)) == 23


def test_val_without_test(make_imagefolder: MakeFolder) -> None:
    root = make_imagefolder({"train/red": 2, "train/blue": 1, "val/red": 1, "val/blue": 1})
    assert _sizes(load_dataset(_config(root))) == {"train": 3, "val": 2, "test": None}


@pytest.mark.parametrize(("max_resolution", "side"), [(None, 37), (56, 64), (300, 90)])
def test_pictures_are_kept_a_little_larger_than_the_input(
    make_imagefolder: MakeFolder, max_resolution: int | None, side: int
) -> None:
    root = make_imagefolder({"red": 3, "blue": 3}, size=(100, 90))
    data = load_dataset(_config(root, resolution=32), max_resolution)
    assert data.train.images.shape == (2, side, side, 3)


def test_other_files_are_left_alone(make_imagefolder: MakeFolder) -> None:
    root = make_imagefolder({"red": 3, "blue": 3})
    (root / "red" / "notes.txt").write_text("not a picture")
    (root / "green").mkdir()
    (root / "README.md").write_text("neither")
    data = load_dataset(_config(root))
    assert data.classes == ("blue", "red")
    assert _sizes(data) == {"train": 2, "val": 2, "test": 2}


def test_no_data_dir() -> None:
    with pytest.raises(
        ConfigError, match=r"^dataset imagefolder needs --data-dir, a folder with train/CLASS"
    ):
        load_dataset(_config(None))


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--data-dir .*nowhere: no such folder$"):
        load_dataset(_config(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "no class folder with images under {root}; two classes are needed at least"),
        ({"red": 4}, "only one class (red) under {root}; two classes are needed at least"),
        ({"train/red": 4, "val/red": 1}, "only one class (red) under {root}/train; two classes"),
        (
            {"red": 3, "blue": 2},
            "class blue has 2 image(s); without a val folder each class needs at least 3, one for each split",
        ),
        (
            {"train/red": 3, "train/blue": 1, "test/red": 1},
            "class blue has 1 image(s); without a val folder each class needs at least 2",
        ),
        (
            {"train/red": 1, "train/blue": 1, "val/green": 1},
            "{root}/val has class green, which the training images do not have",
        ),
        ({"train/red": 1, "train/blue": 1, "val/red": 0}, "{root}/val has no images"),
    ],
    ids=[
        "empty",
        "one class",
        "one in train",
        "too few",
        "too few with test",
        "class only in val",
        "empty val",
    ],
)
def test_folders_that_cannot_be_right(
    make_imagefolder: MakeFolder, tmp_path: Path, counts: dict[str, int], message: str
) -> None:
    root = tmp_path / "pictures"
    root.mkdir()
    make_imagefolder(counts)
    for check in (load_dataset, check_data_dir):
        with pytest.raises(ConfigError) as caught:
            check(_config(root))
        assert message.format(root=root) in str(caught.value)


def test_a_tilde_is_the_home_folder(make_imagefolder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_imagefolder({"red": 3, "blue": 3})
    monkeypatch.setitem(os.environ, "HOME", str(root.parent))
    assert load_dataset(_config(Path("~") / "pictures")).name == "pictures"
