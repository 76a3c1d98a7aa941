import os
import shutil
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


def test_a_class_with_one_picture_is_trained_and_not_judged(make_imagefolder: MakeFolder) -> None:
    data = load_dataset(_config(make_imagefolder({"red": 10, "blue": 10, "rare": 1, "two": 2})))
    assert data.classes == ("blue", "rare", "red", "two") and data.test is not None
    counts = [np.bincount(part.labels, minlength=4).tolist() for part in (data.train, data.val, data.test)]
    assert counts == [[6, 1, 6, 1], [2, 0, 2, 0], [2, 0, 2, 1]]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "no class folder with images under {root}; two classes are needed at least"),
        ({"red": 4}, "only one class (red) under {root}; two classes are needed at least"),
        ({"train/red": 4, "val/red": 1}, "only one class (red) under {root}/train; two classes"),
        (
            {"red": 2, "blue": 2},
            "no class has the 3 images that it needs to be trained and validated: add pictures, or a folder",
        ),
        (
            {"train/red": 1, "train/blue": 1, "test/red": 1},
            "no class has the 2 images that it needs to be trained and validated",
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


@pytest.mark.parametrize("val", ["val", "valid", "Validation", "DEV"])
@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Training", "Testing")])
def test_splits_have_their_usual_names_in_any_case(
    make_imagefolder: MakeFolder, train: str, val: str, test: str
) -> None:
    counts = {train: 3, val: 2, test: 1}
    root = make_imagefolder({f"{name}/{c}": n for name, n in counts.items() for c in ("red", "blue")})
    data = load_dataset(_config(root))
    assert _sizes(data) == {"train": 6, "val": 4, "test": 2}
    assert data.account == (
        "pictures: 12 images of 2 classes (blue, red): 6 to train, 4 to validate, 2 to test"
    )


def test_classes_may_be_called_as_splits_are(make_imagefolder: MakeFolder) -> None:
    root = make_imagefolder({"red": 3, "blue": 3})
    (root / "red").rename(root / "train")
    (root / "blue").rename(root / "test")
    data = load_dataset(_config(root))
    assert data.classes == ("test", "train") and _sizes(data) == {"train": 2, "val": 2, "test": 2}


def test_what_is_left_aside_is_said(make_imagefolder: MakeFolder) -> None:
    root = make_imagefolder({"train/red": 2, "train/blue": 2, "val/red": 1, "val/blue": 1})
    (root / "test").mkdir()
    for name in ("1.png", "2.png"):
        (root / "test" / name).write_bytes(b"")
    (root / "notes").mkdir()
    (root / "train" / "green").mkdir()
    for name in ("._00.png", "readme.txt", ".DS_Store"):
        (root / "train" / "red" / name).write_bytes(b"")
    (root / "train" / "loose.png").write_bytes(b"")
    data = load_dataset(_config(root))
    assert _sizes(data) == {"train": 4, "val": 2, "test": None}
    assert str(data.account).partition("; left out: ")[2] == (
        "2 in test, which has no folders of classes, 2 hidden, 1 folder notes that is no split, "
        "1 outside class folders, 1 empty folder (green), 1 of ending .txt"
    )


def test_names_of_many_classes_are_cut_short(make_imagefolder: MakeFolder) -> None:
    root = make_imagefolder({"red": 3, "blue": 3})
    for index in range(30):
        shutil.copytree(root / "red", root / f"c{index:02}")
    account = str(load_dataset(_config(root)).account)
    assert "32 classes (blue, c00, c01, c02, c03, c04, c05, c06, c07, c08, c09, c10 and 20 more)" in account


@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines", b"tab\t"])
def test_any_name_of_a_folder_is_a_class_and_its_text_can_be_written(
    make_imagefolder: MakeFolder, name: bytes
) -> None:
    root = make_imagefolder({"red": 3, "blue": 3})
    (root / "red").rename(root / os.fsdecode(name))
    data = load_dataset(_config(root))
    assert len(data.train) == 2
    for text in (*data.classes, str(data.account)):
        assert text.isprintable() and text.encode()


def test_links_to_folders_inside_a_class_are_followed(make_imagefolder: MakeFolder, tmp_path: Path) -> None:
    root = make_imagefolder({"red": 3, "blue": 3})
    shutil.copytree(root / "red", tmp_path / "more")
    (root / "red" / "more").symlink_to(tmp_path / "more")
    assert _counts(load_dataset(_config(root)).train) == [1, 4]


def _edited(root: Path, edit: str) -> Path:
    """Changes a folder with train/red and val/red, train/blue and val/blue."""
    if edit == "two names":
        shutil.copytree(root / "val", root / "valid")
    elif edit == "no train":
        (root / "train").rename(root / "first")
    elif edit == "flat val":
        for path in (root / "val").rglob("*.png"):
            path.rename(root / "val" / f"{path.parent.name}{path.name}")
        (root / "val" / "red").rmdir(), (root / "val" / "blue").rmdir()
    elif edit == "no pictures":
        for path in (root / "train" / "red").iterdir():
            path.rename(path.with_suffix(".heic"))
    elif edit == "one level up":
        root.rename(root.with_name("inner"))
        root.mkdir()
        root.with_name("inner").rename(root / "inner")
    elif edit == "two levels up":
        _edited(_edited(root, "one level up"), "one level up")
    elif edit == "flat":
        for path in list(root.rglob("*.png")):
            path.rename(root / f"{path.parent.parent.name}{path.parent.name}{path.name}")
        shutil.rmtree(root / "train"), shutil.rmtree(root / "val")
    return root


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("two names", "{root} has two folders for val, val and valid: merge or move one away"),
        ("no train", "{root}/val holds folders of images, as a split does, but {root} has no folder train"),
        ("flat val", "{root}/val has images but no folders of classes: sort them, or move it away"),
        (
            "no pictures",
            "{root}/train/red: none of its files is an image that Pillow opens (2 of ending .heic)",
        ),
        ("one level up", "only one class (inner) under {root}: did you mean --data-dir {root}/inner?"),
        ("two levels up", "only one class (inner) under {root}: did you mean --data-dir {root}/inner/inner?"),
        ("flat", "sort the images into a folder per class, or add labels.csv (file,label)"),
    ],
)
def test_folders_that_were_probably_meant_otherwise(
    make_imagefolder: MakeFolder, edit: str, message: str
) -> None:
    counts = {"train/red": 2, "train/blue": 2, "val/red": 1, "val/blue": 1}
    root = _edited(make_imagefolder(counts), edit)
    for check in (load_dataset, check_data_dir):
        with pytest.raises(ConfigError) as caught:
            check(_config(root))
        assert message.format(root=root) in str(caught.value) and "\n" not in str(caught.value)
