"""What the tests of tinytl share: pictures in a folder, images in memory."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.support.cases import tinted_images
from tinytl.data.load import DataSplits

COLORS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220)}
GREY = (90, 90, 90)
"""Of a class that is named otherwise."""


def write_imagefolder(root: Path, counts: dict[str, int], size: tuple[int, int] = (12, 12)) -> Path:
    """Writes PNGs: `{"train/red": 3, "val/blue": 1}`; the last part of a name is the class."""
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        for i in range(count):
            color = tuple(min(255, c + i) for c in COLORS.get(Path(folder).name, GREY))
            Image.new("RGB", size, color).save(root / folder / f"{i:02}.png")
    return root


@pytest.fixture
def make_imagefolder(tmp_path: Path) -> Callable[..., Path]:
    return functools.partial(write_imagefolder, tmp_path / "pictures")


@pytest.fixture
def splits() -> DataSplits:
    """Three classes that differ by colour; 10 training images, so that the last batch of 4 is smaller."""
    train, val, test = tinted_images(10, 0), tinted_images(6, 1), tinted_images(6, 2)
    return DataSplits("colors", tuple(COLORS), train, val, test, crop_scale_min=0.5, flip=True)
