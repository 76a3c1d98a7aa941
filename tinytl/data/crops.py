"""The boxes of training crops, drawn on the CPU: the same on every device and for every way of loading."""

import math
from dataclasses import dataclass

import numpy as np

ASPECT_RATIO_MAX = 4 / 3
"""Training crops are between 3:4 and 4:3. Source: Inception, as in torchvision's RandomResizedCrop."""


@dataclass(frozen=True)
class Crop:
    """A box inside a square picture, in pixels, and whether its content is mirrored."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool = False


def random_crop(side: int, scale_min: float, flip: bool, rng: np.random.Generator) -> Crop:
    """Draws a box that keeps at least `scale_min` of the area of a square of `side` pixels.

    A picture that is stored in another size draws as many numbers, and the same box up to its pixels.
    """
    area = rng.uniform(scale_min, 1.0)
    aspect = math.exp(rng.uniform(-math.log(ASPECT_RATIO_MAX), math.log(ASPECT_RATIO_MAX)))
    height = min(side, max(1, round(side * math.sqrt(area / aspect))))
    width = min(side, max(1, round(side * math.sqrt(area * aspect))))
    top, left = (int(rng.random() * (side - edge + 1)) for edge in (height, width))
    return Crop(top, left, height, width, flip and bool(rng.random() < 0.5))
