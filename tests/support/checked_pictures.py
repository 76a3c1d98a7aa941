"""Pictures made by hand, and folders of them."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from tests.support.cases import small
from tinytl.data.named_pictures import named_parts
from tinytl.data_checks.checked_set import CheckedSet


def patterned(seed: int, size: tuple[int, int] = (64, 64), low: int = 0, high: int = 255) -> Image.Image:
    """A picture of big and small shapes, as photographs have: smooth noise and sharp noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    fine = rng.integers(-30, 31, (size[1], size[0], 3))
    whole = np.clip(np.asarray(coarse, np.int64) + fine, 0, 255)
    return Image.fromarray((low + whole * (high - low) / 255).astype(np.uint8))


def blurred(picture: Image.Image) -> Image.Image:
    """The same picture out of focus."""
    return picture.filter(ImageFilter.GaussianBlur(6))


def write_pictures(root: Path, pictures: dict[str, Image.Image]) -> Path:
    """Writes pictures under their names, `train/cat/1.png`."""
    for name, picture in pictures.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(root / name)
    return root


def several(of: dict[str, int], first_seed: int = 1000) -> dict[str, Image.Image]:
    """Different pictures under names: `{"train/cat": 3}` gives `train/cat/0.png` to `train/cat/2.png`."""
    names = [f"{folder}/{i}.png" for folder, count in of.items() for i in range(count)]
    return {name: patterned(first_seed + i) for i, name in enumerate(names)}


def checked_set(root: Path | None = None) -> CheckedSet:
    """The pictures of a folder as a check lists them; without a folder, the digits."""
    config = small(num_classes=None)
    if root is not None:
        config = small(dataset="imagefolder", data_dir=str(root), num_classes=None)
    data, named = named_parts(config)
    return CheckedSet(data.classes, named)
