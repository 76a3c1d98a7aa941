"""Image files of every kind to RGB squares, the same for images in memory and for streamed ones."""

import tempfile
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from tinytl.data.bit_depth import eight_bits
from tinytl.errors import ConfigError

MOST_PIXELS = 2**29
"""A larger picture is refused: as RGB it would need 1.5 GiB. Pillow's own limit is a third of that."""
MOST_NAMED = 3
"""Pictures that a line names; a file has them all."""
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a picture of each EXIF orientation upright."""

# Limits of Pillow's for servers that open strangers' files; here they refuse a user's own photographs.
Image.MAX_IMAGE_PIXELS = None
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
# Remarks on metadata, without the file's name.
warnings.filterwarnings("ignore", module=r"PIL\.")


class BrokenPicture(NamedTuple):
    """A file that does not decode, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path} does not decode as an image ({self.reason})"


def decode_all(paths: Sequence[Path], side: int) -> tuple[npt.NDArray[np.uint8], list[BrokenPicture]]:
    """Decodes files to `(N, S, S, 3)`, with S the largest central square, at most `side`.

    Every file is decoded whole: a truncated one must be found here, not in the middle of a search. Returns
    the images of those that decode, in order, and those that do not.
    """
    with ThreadPoolExecutor() as pool:
        squares = list(pool.map(lambda path: _square(path, side), paths))
    broken = [square for square in squares if isinstance(square, BrokenPicture)]
    whole = [index for index, square in enumerate(squares) if not isinstance(square, BrokenPicture)]
    largest = max((len(squares[index]) for index in whole), default=side)
    stored = np.empty((len(whole), largest, largest, 3), np.uint8)
    for row, index in enumerate(whole):
        square = squares[index]
        assert not isinstance(square, BrokenPicture)
        stored[row] = _resize(square, largest)
        squares[index] = np.empty((0, 0, 3), np.uint8)  # so that a large set is not in memory twice
    return stored, broken


def find_broken(paths: Sequence[Path]) -> list[BrokenPicture]:
    """Returns the files that do not decode, one after the other in memory."""
    with ThreadPoolExecutor() as pool:
        return [found for found in pool.map(_broken, paths) if found is not None]


def decode_square(path: Path, side: int) -> npt.NDArray[np.uint8]:
    """Decodes one file to `(S, S, 3)` with S = `side`.

    Raises:
        ConfigError: naming the file, if it does not decode.
    """
    square = _square(path, side)
    if isinstance(square, BrokenPicture):
        raise broken_error([square], 1)
    return _resize(square, side)


def broken_error(broken: Sequence[BrokenPicture], n_all: int) -> ConfigError:
    """Returns one line for all pictures that do not decode; of many, the first few, and a file with each."""
    if len(broken) == 1:
        return ConfigError(f"{broken[0]}: repair or remove it")
    first = "; ".join(f"{one.path} ({one.reason})" for one in broken[:MOST_NAMED])
    rest = ""
    if len(broken) > MOST_NAMED:
        with tempfile.NamedTemporaryFile(
            "w", prefix="broken-images-", suffix=".txt", delete=False, errors="surrogateescape"
        ) as file:
            file.writelines(f"{one.path}\t{one.reason}\n" for one in broken)
        rest = f"; all {len(broken)} stand in {file.name}"
    return ConfigError(
        f"{len(broken):,} of {n_all:,} images do not decode: {first}{rest}: repair or remove them, or add "
        "--skip-broken"
    )


def _broken(path: Path) -> BrokenPicture | None:
    square = _square(path, 1)
    return square if isinstance(square, BrokenPicture) else None


def decode_whole(path: Path, at_least: int | None = None) -> Image.Image | BrokenPicture:
    """Decodes one file to RGB, upright, with white behind transparent pixels.

    `at_least`: edges of that many pixels are enough. A JPEG more than twice as large is then decoded at 1/2,
    1/4 or 1/8 of its size, which is faster. Default: every pixel of the file.
    """
    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                return BrokenPicture(path, f"{opened.width} x {opened.height} pixels are over {MOST_PIXELS}")
            if at_least is not None:
                opened.draft(None, (at_least, at_least))
            opened.load()  # TIFFs are brought upright by this
            return _opaque(_upright(eight_bits(opened), _orientation(opened)))
    except MemoryError:
        raise
    except UnidentifiedImageError:  # its own text repeats the path
        return BrokenPicture(path, "it begins as no image that Pillow knows")
    except Exception as error:  # decoders raise anything, and each means that this file is no picture
        text = " ".join(str(error).split())
        return BrokenPicture(path, text or type(error).__name__)


def _square(path: Path, side: int) -> npt.NDArray[np.uint8] | BrokenPicture:
    """Decodes one file to RGB and cuts the central square, at most `side` pixels wide."""
    picture = decode_whole(path, side)
    if isinstance(picture, BrokenPicture):
        return picture
    width, height = picture.size
    edge = min(width, height)
    left, top = (width - edge) // 2, (height - edge) // 2
    cut = np.asarray(picture.crop((left, top, left + edge, top + edge)))
    return _resize(cut, min(edge, side))


def _orientation(picture: Image.Image) -> int:
    """Returns the EXIF orientation, 1 if there is none that can be read."""
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # metadata of any kind: the picture itself is whole
        return 1


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
    method = UPRIGHT.get(orientation)
    return picture if method is None else picture.transpose(method)


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
