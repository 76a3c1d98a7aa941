"""Image files of every kind to RGB squares, the same for images in memory and for streamed ones."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from tinytl.errors import ConfigError

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def images_in(folder: Path) -> list[Path]:
    """Returns the image files anywhere under `folder`, by their endings, in order."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())


def decode_all(paths: Sequence[Path], side: int) -> npt.NDArray[np.uint8]:
    """Decodes files to `(N, S, S, 3)`, with S the largest central square, at most `side`.

    Raises:
        ConfigError: naming a file that does not decode.
    """
    with ThreadPoolExecutor() as pool:
        # Every file is decoded whole: a truncated one must be found here, not in the middle of a search.
        squares: list[npt.NDArray[np.uint8] | None] = list(pool.map(lambda p: _square(p, side), paths))
    largest = max((len(square) for square in squares if square is not None), default=side)
    stored = np.empty((len(squares), largest, largest, 3), np.uint8)
    for row, square in enumerate(squares):
        assert square is not None
        stored[row] = _resize(square, largest)
        squares[row] = None  # so that a large set is not in memory twice
    return stored


def decode_square(path: Path, side: int) -> npt.NDArray[np.uint8]:
    """Decodes one file to `(S, S, 3)` with S = `side`. Raises ConfigError as `decode_all` does."""
    return _resize(_square(path, side), side)


def _square(path: Path, side: int) -> npt.NDArray[np.uint8]:
    """Decodes one file to RGB and cuts the central square, at most `side` pixels wide."""
    try:
        with Image.open(path) as opened:
            # A JPEG larger than twice the wanted size is decoded at 1/2, 1/4 or 1/8 of its size, which is
            # faster.
            opened.draft(None, (side, side))
            picture = _opaque(ImageOps.exif_transpose(_eight_bits(opened)))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ConfigError(f"{path} does not decode as an image ({error}): repair or remove it") from None
    width, height = picture.size
    edge = min(width, height)
    left, top = (width - edge) // 2, (height - edge) // 2
    cut = np.asarray(picture.crop((left, top, left + edge, top + edge)))
    return _resize(cut, min(edge, side))


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Scales 16-bit grey to 8 bits, which Pillow's `convert` would cut off at 255: all white."""
    if not picture.mode.startswith("I;16"):
        return picture
    return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))


def _opaque(picture: Image.Image) -> Image.Image:
    """Converts to RGB, with white behind transparent pixels."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layers = picture.convert("RGBA")
    white = Image.new("RGBA", layers.size, "white")
    return Image.alpha_composite(white, layers).convert("RGB")


def _resize(square: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    if len(square) == side:
        return square
    return np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.BILINEAR))
