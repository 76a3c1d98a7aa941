"""Grey pictures of more than 8 bits, or of floats, brought to 8 bits by what is in the file.

Pillow's own conversion cuts values off at 255 or at 0: such pictures would be all white or all black.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

DEPTHS = (8, 10, 12, 14, 16)
"""Bits that cameras, microscopes and scanners give a pixel."""
BITS_PER_SAMPLE = 258
"""TIFF's tag of that name."""


def eight_bits(picture: Image.Image) -> Image.Image:
    """Returns a grey picture of 8 bits for one of more, and any other picture as it is.

    Whole numbers keep the highest 8 of the bits that the picture uses (12 in a file of 16, say). Floats count
    from 0 to 1, or from 0 to 255, if they lie there; else, and if there are negative numbers, the smallest
    becomes black and the largest white.

    Raises:
        ValueError: for floats that are not finite, or colours of which a file of 16 bits uses too few.
    """
    if picture.mode == "F":
        return Image.fromarray(_from_floats(np.asarray(picture)))
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        return Image.fromarray(_from_integers(np.asarray(picture).astype(np.int64)))
    _check_deep_colours(picture)
    return picture


def _from_integers(values: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    if values.min() < 0:
        return _stretched(values.astype(np.float64))
    used = int(values.max()).bit_length()
    depth = next((bits for bits in DEPTHS if used <= bits), used)
    return (values >> (depth - 8)).astype(np.uint8)


def _from_floats(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    if not np.isfinite(values).all():
        raise ValueError("a pixel is not finite")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 255:
        return _stretched(values.astype(np.float64))
    return np.round(values * (255 if high <= 1 else 1)).astype(np.uint8)


def _stretched(values: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    low, high = values.min(), values.max()
    return np.round((values - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)


def _check_deep_colours(picture: Image.Image) -> None:
    """Of colours Pillow keeps the highest 8 bits of 16: nothing, if the file uses 12."""
    bits = getattr(picture, "tag_v2", {}).get(BITS_PER_SAMPLE, (8,))
    if max(bits) <= 8 or picture.mode not in ("RGB", "RGBA"):
        return
    brightest = max(int(high) for _, high in picture.getextrema()[:3])  # type: ignore[misc]
    if 0 < brightest < 16:
        raise ValueError("its colours use 12 bits or fewer of 16, which reads as black: save it with 8 bits")
