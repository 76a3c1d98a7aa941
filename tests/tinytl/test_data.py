import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cases import small
from tinytl.config import TrainConfig
from tinytl.data import DataSplits, ImageSet, check_data_dir, load_dataset, stratified_split
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


@pytest.mark.parametrize(("fraction", "expected"), [(0.2, [2, 1, 1]), (0.5, [4, 2, 1]), (0.99, [7, 3, 1])])
def test_stratified_split(fraction: float, expected: list[int]) -> None:
    labels = np.array([0, 1, 0, 2, 0, 1, 0, 0, 2, 1, 0, 0, 1, 0])  # 8 of class 0, 4 of 1, 2 of 2
    first, second = stratified_split(labels, fraction, seed=0)
    assert np.bincount(labels[second]).tolist() == expected
    assert sorted([*first, *second]) == list(range(14))
    assert first.tolist() == sorted(first) and second.tolist() == sorted(second)
    again = stratified_split(labels, fraction, seed=0)
    assert np.array_equal(second, again[1])


def test_another_seed_splits_otherwise() -> None:
    labels = np.zeros(40, dtype=np.int64)
    splits = [tuple(stratified_split(labels, 0.5, seed)[1]) for seed in (0, 1)]
    assert splits[0] != splits[1]


def test_digits() -> None:
    pytest.importorskip("sklearn")
    data = load_dataset(small(num_classes=None, seed=5))
    assert (data.name, data.classes, data.flip) == ("digits", tuple("0123456789"), False)
    assert _sizes(data) == {"train": 1079, "val": 359, "test": 359}
    assert data.test is not None
    for part in (data.train, data.val, data.test):
        assert part.images.shape == (len(part), 8, 8, 3)
        assert part.images.dtype == np.uint8 and part.labels.dtype == np.int64
        shares = np.bincount(part.labels) / np.array([178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
        assert np.ptp(shares) < 0.02
    assert data.train.images.max() == 255
    assert np.array_equal(data.train.images[..., 0], data.train.images[..., 2])


def test_digits_splits_are_disjoint_and_do_not_follow_the_seed() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    data, again = (load_dataset(small(num_classes=None, seed=seed)) for seed in (0, 1))
    assert np.array_equal(data.train.images, again.train.images)
    assert np.array_equal(data.val.labels, again.val.labels)
    assert data.test is not None
    parts = [part.images.reshape(len(part), -1) for part in (data.train, data.val, data.test)]
    rows = sorted(row.tobytes() for part in parts for row in part)
    grey = np.rint(datasets.load_digits().images * (255 / 16)).astype(np.uint8)
    assert rows == sorted(np.repeat(g.ravel(), 3).tobytes() for g in grey)


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


def test_pictures_are_cut_to_the_central_square_and_brought_to_one_size(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "val" / name).mkdir(parents=True)
        Image.new("RGB", (20, 20), (9, 9, 9)).save(tmp_path / "val" / name / "x.png")
    stripes = np.zeros((10, 30, 3), np.uint8)
    stripes[:, 10:20] = 200
    Image.fromarray(stripes).save(tmp_path / "train" / "a" / "wide.png")
    Image.fromarray(stripes.transpose(1, 0, 2)).save(tmp_path / "train" / "b" / "tall.png")
    data = load_dataset(_config(tmp_path, resolution=32))
    assert data.train.images.shape == (2, 20, 20, 3)
    assert (data.train.images == 200).all()
    assert (data.val.images == 9).all()


@pytest.mark.parametrize(("max_resolution", "side"), [(None, 37), (56, 64), (300, 90)])
def test_pictures_are_kept_a_little_larger_than_the_input(
    make_imagefolder: MakeFolder, max_resolution: int | None, side: int
) -> None:
    root = make_imagefolder({"red": 3, "blue": 3}, size=(100, 90))
    data = load_dataset(_config(root, resolution=32), max_resolution)
    assert data.train.images.shape == (2, side, side, 3)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.new("L", (4, 4), 77), [77, 77, 77]),
        (Image.new("1", (4, 4), 1), [255, 255, 255]),
        (Image.new("RGBA", (4, 4), (10, 20, 30, 255)), [10, 20, 30]),
        (Image.new("RGB", (4, 4), (10, 20, 30)).convert("P"), None),
        (Image.new("CMYK", (4, 4), (0, 0, 0, 255)), [0, 0, 0]),
        (Image.fromarray(np.full((4, 4), 77 * 256 + 5, np.uint16)), [77, 77, 77]),
    ],
    ids=["grey", "one bit", "alpha", "palette", "cmyk", "16 bit"],
)
def test_every_kind_of_picture_becomes_rgb(
    make_imagefolder: MakeFolder, picture: Image.Image, expected: list[int] | None
) -> None:
    root = make_imagefolder({"train/red": 1, "train/blue": 1, "val/red": 1, "val/blue": 1}, size=(4, 4))
    suffix = "tiff" if picture.mode == "CMYK" else "PNG"
    (root / "train" / "red" / "00.png").unlink()
    picture.save(root / "train" / "red" / f"a.{suffix}")
    data = load_dataset(_config(root))
    pixels = np.asarray(picture.convert("RGB")) if expected is None else np.full((4, 4, 3), expected)
    assert np.array_equal(data.train.images[1], pixels)


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


@pytest.mark.parametrize("damage", ["text", "cut"])
def test_a_picture_that_does_not_decode_is_named(make_imagefolder: MakeFolder, damage: str) -> None:
    root = make_imagefolder({"red": 3, "blue": 3}, size=(64, 64))
    broken = root / "red" / "01.png"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(broken)
    broken.write_bytes(b"no picture" if damage == "text" else broken.read_bytes()[:4000])
    check_data_dir(_config(root))
    with pytest.raises(ConfigError) as caught:
        load_dataset(_config(root))
    assert str(caught.value).startswith(f"{broken} does not decode as an image (")
    assert str(caught.value).endswith("): repair or remove it")


def test_number_of_classes_must_agree(make_imagefolder: MakeFolder) -> None:
    root = make_imagefolder({"red": 3, "blue": 3})
    assert load_dataset(small(dataset="imagefolder", data_dir=str(root), num_classes=2)).classes
    with pytest.raises(ConfigError, match=r"^num_classes=3, but pictures has 2 classes: leave"):
        load_dataset(small(dataset="imagefolder", data_dir=str(root), num_classes=3))


def test_a_folder_without_imagefolder_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not used by dataset digits: add --dataset imagefolder"):
        check_data_dir(small(data_dir=str(tmp_path)))
    check_data_dir(small())


def test_a_tilde_is_the_home_folder(make_imagefolder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_imagefolder({"red": 3, "blue": 3})
    monkeypatch.setitem(os.environ, "HOME", str(root.parent))
    assert load_dataset(_config(Path("~") / "pictures")).name == "pictures"


def test_transparent_pictures_are_laid_on_white_and_rotated_ones_are_upright(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(3):
            Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / name / f"{index}.png")
    palette = Image.new("P", (8, 8), 0)
    palette.save(tmp_path / "a" / "3.png", transparency=bytes([0]))
    rotated = Image.new("RGB", (8, 8), "black")
    rotated.paste("white", (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    rotated.save(tmp_path / "b" / "3.png", exif=exif)
    data = load_dataset(TrainConfig(dataset="imagefolder", data_dir=str(tmp_path)))
    images = np.concatenate([split.images for split in (data.train, data.val, data.test)])
    upright = [image for image in images if (image == 0).any()]
    assert (
        len(images) == 8
        and (np.delete(images, [i for i, m in enumerate(images) if (m == 0).any()], 0) == 255).all()
    )
    assert len(upright) == 1 and (upright[0][:4] == 0).all() and (upright[0][4:] == 255).all()
