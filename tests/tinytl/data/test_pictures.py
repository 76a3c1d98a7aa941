import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from tests.support.cases import small
from tests.support.places import ROOT
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
    stored, broken = decode_all(paths, 24)
    assert not broken and stored.shape == (3, 24, 24, 3)
    assert all(np.array_equal(decode_square(path, 24), row) for path, row in zip(paths, stored, strict=True))


def exif(*entries: bytes, orientation: int = 6) -> bytes:
    """An EXIF block with an orientation and entries of 12 bytes."""
    rows = [struct.pack("<HHII", 0x112, 3, 1, orientation), *entries]
    body = struct.pack("<H", len(rows)) + b"".join(rows) + bytes(4)
    return b"Exif\0\0II*\x00\x08\x00\x00\x00" + body


ODD_EXIF = {
    "a maker of rational numbers": exif(struct.pack("<HHII", 0x10F, 5, 1, 26)),
    "beyond the end": exif(struct.pack("<HHII", 0x10F, 2, 900, 9000)),
    "an unknown type": exif(struct.pack("<HHII", 0x10F, 99, 1, 0)),
    "an orientation of nothing": exif(orientation=77),
    "no block at all": b"Exif\0\0garbage",
}


def decoded_alone(*paths: Path) -> subprocess.CompletedProcess[str]:
    """Decodes files in a process of its own, where pytest does not change what is done with warnings."""
    code = (
        "import sys; from pathlib import Path; from tinytl.data.pictures import decode_square\n"
        "for name in sys.argv[1:]: print(decode_square(Path(name), 8)[0, 0].tolist())"
    )
    command = [sys.executable, "-c", code, *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)


def test_a_picture_is_read_whatever_its_exif_says_and_without_a_word(tmp_path: Path) -> None:
    pixels = np.zeros((16, 8, 3), np.uint8)
    pixels[:8] = 255
    Image.fromarray(pixels).save(tmp_path / "plain.jpg", quality=100)
    raw, paths = (tmp_path / "plain.jpg").read_bytes(), []
    for name, block in ODD_EXIF.items():
        paths.append(tmp_path / f"{name}.jpg")
        paths[-1].write_bytes(raw[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + raw[2:])
    done = decoded_alone(*paths)
    assert (len(done.stdout.splitlines()), done.stderr) == (len(ODD_EXIF), "")


def test_each_orientation_is_brought_upright(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    for orientation in range(1, 9):
        block = Image.Exif()
        block[0x0112] = orientation
        for ending in ("png", "tif"):
            path = tmp_path / f"{orientation}.{ending}"
            Image.fromarray(pixels).save(path, exif=block)
            with Image.open(path) as opened:
                expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
            assert np.array_equal(decode_square(path, 8), expected), (orientation, ending)


def test_a_large_picture_and_a_long_text_are_read_without_a_word(tmp_path: Path) -> None:
    Image.new("L", (14_000, 13_000), 128).save(tmp_path / "large.png", compress_level=1)  # 182 megapixels
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 3_000_000, zip=True)
    Image.new("RGB", (8, 8), "red").save(tmp_path / "text.png", pnginfo=text)
    done = decoded_alone(tmp_path / "large.png", tmp_path / "text.png")
    assert (done.stdout.splitlines(), done.stderr) == (["[128, 128, 128]", "[255, 0, 0]"], "")


def test_whatever_a_decoder_raises_the_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")

    def fail(*_: object) -> None:
        raise AttributeError("an inner word\nof two lines")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(ConfigError) as caught:
        decode_square(tmp_path / "a.png", 8)
    line = (
        f"{tmp_path / 'a.png'} does not decode as an image (an inner word of two lines): repair or remove it"
    )
    assert str(caught.value) == line


def test_deep_colours_that_read_as_black_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.tif"
    path.write_bytes(tiff_of_16_bits(np.full((4, 4, 3), 4000, np.uint16)))
    with pytest.raises(ConfigError, match=r"its colours use 12 bits or fewer of 16"):
        decode_square(path, 4)
    path.write_bytes(tiff_of_16_bits(np.full((4, 4, 3), 40_000, np.uint16)))
    assert (decode_square(path, 4) == 40_000 >> 8).all()


def tiff_of_16_bits(pixels: np.ndarray) -> bytes:
    """A TIFF of RGB with 16 bits, which Pillow reads and does not write."""
    height, width, _ = pixels.shape
    n_entries = 9
    bits_at = 8 + 2 + 12 * n_entries + 4
    entries = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, bits_at), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, bits_at + 6), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, pixels.nbytes),
    ]  # fmt: skip
    head = b"II*\x00" + struct.pack("<IH", 8, n_entries)
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return head + table + struct.pack("<3H", 16, 16, 16) + pixels.astype("<u2").tobytes()
