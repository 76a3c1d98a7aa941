from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.cases import small
from tinytl.config.train_config import TrainConfig
from tinytl.data.load import check_data_dir, load_dataset
from tinytl.data.pictures import decode_all, decode_square
from tinytl.errors import ConfigError

MakeFolder = Callable[..., Path]


def _config(root: Path | None, **changes: object) -> TrainConfig:
    data_dir = None if root is None else str(root)
    return small(dataset="imagefolder", data_dir=data_dir, num_classes=None, **changes)


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


def test_large_jpegs_are_decoded_smaller_and_look_the_same(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 800)[None, :, None] * np.ones((600, 1, 3))
    Image.fromarray(ramp.astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(ramp.astype(np.uint8)).save(tmp_path / "a.png")
    small_ones = [decode_square(tmp_path / name, 100).astype(int) for name in ("a.jpg", "a.png")]
    assert small_ones[0].shape == (100, 100, 3)
    assert np.abs(small_ones[0] - small_ones[1]).max() <= 3


def test_one_and_all_are_decoded_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{edge}.png" for edge in (10, 20, 30)]
    for path, edge in zip(paths, (10, 20, 30), strict=True):
        Image.fromarray(rng.integers(0, 256, (edge, edge + 4, 3), dtype=np.uint8)).save(path)
    stored = decode_all(paths, 24)
    assert stored.shape == (3, 24, 24, 3)
    assert all(np.array_equal(decode_square(path, 24), row) for path, row in zip(paths, stored, strict=True))
