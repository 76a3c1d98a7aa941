"""What the tests of tinytl share: one thread, no GPU, pictures in a folder, images in memory."""

import os

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tinytl.data import DataSplits, ImageSet

COLORS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220)}


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def make_imagefolder(tmp_path: Path) -> Callable[..., Path]:
    """Writes PNGs: `make({"train/red": 3, "val/blue": 1})`; the last part of a name is the class."""

    def make(counts: dict[str, int], size: tuple[int, int] = (12, 12)) -> Path:
        root = tmp_path / "pictures"
        for folder, count in counts.items():
            (root / folder).mkdir(parents=True)
            for i in range(count):
                color = tuple(min(255, c + i) for c in COLORS[Path(folder).name])
                Image.new("RGB", size, color).save(root / folder / f"{i:02}.png")
        return root

    return make


def _image_set(n: int, seed: int) -> ImageSet:
    rng = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int64) % 3
    images = rng.integers(0, 60, (n, 16, 16, 3))
    images[np.arange(n), :, :, labels] += 150
    return ImageSet(images.astype(np.uint8), labels)


@pytest.fixture
def splits() -> DataSplits:
    """Three classes that differ by colour; 10 training images, so that the last batch of 4 is smaller."""
    train, val, test = _image_set(10, 0), _image_set(6, 1), _image_set(6, 2)
    return DataSplits("colors", tuple(COLORS), train, val, test, crop_scale_min=0.5, flip=True)
