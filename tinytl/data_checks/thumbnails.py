"""Small JPEGs of pictures, of a bounded number of bytes: for pages that hold many."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from tinytl.data.pictures import BrokenPicture, decode_whole

SIDE = 96
"""Longest edge in pixels; a smaller picture keeps its size."""
MOST_BYTES = 4096
QUALITIES = (80, 65, 50, 35, 20)


def thumbnail(
    picture: Path | Image.Image | npt.NDArray[np.uint8], side: int = SIDE, most_bytes: int = MOST_BYTES
) -> bytes | None:
    """Returns a JPEG of at most `side` pixels along the longer edge and `most_bytes` bytes.

    A picture that needs more is compressed more, and then made smaller. None: a file that does not decode.

    Args:
        picture: a file, a picture of Pillow's, or `(H, W, 3)` uint8.
        side: in pixels.
        most_bytes: 1,024 at least, as a JPEG's head alone needs 600.
    """
    assert most_bytes >= 1024
    whole = decode_whole(picture, side) if isinstance(picture, Path) else picture
    if isinstance(whole, BrokenPicture):
        return None
    small = whole.copy() if isinstance(whole, Image.Image) else Image.fromarray(whole)
    while True:
        small.thumbnail((side, side))
        for quality in QUALITIES:
            content = _jpeg(small, quality)
            if len(content) <= most_bytes:
                return content
        side = max(1, side * 3 // 4)


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    picture.convert("RGB").save(out, "JPEG", quality=quality, optimize=True)
    return out.getvalue()
