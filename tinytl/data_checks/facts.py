"""What is kept of a picture once it is decoded: a digest, a hash, a few colours and numbers, 232 bytes.

The hash is that of pHash: signs of the lowest frequencies of a small grey copy (Zauner, "Implementation and
Benchmarking of Perceptual Image Hash Functions", 2010). Two pictures that differ in size, compression or a
little light have nearly the same hash; the colours tell apart what is alike in grey alone.
"""

import hashlib

import numpy as np
import numpy.typing as npt
from PIL import Image

HASH_SIDE = 32
"""Edge of the grey copy, in pixels."""
HASH_FREQUENCIES = 8
"""Frequencies kept in each direction: 64 bits."""
COLOURS_SIDE = 8
"""Edge of the colour copy, in pixels."""
FACTS = np.dtype(
    [
        ("digest", "u8"),
        ("hash", "u8"),
        ("colours", "u1", 3 * COLOURS_SIDE**2),
        ("width", "u4"),
        ("height", "u4"),
        ("lightest", "f4"),
        ("darkest", "f4"),
        ("deviation", "f4"),
        ("sharpness", "f4"),
    ]
)
"""`digest`: of all pixels and the size. `lightest`, `darkest`: the 99th and 1st percentile of brightness, 0
to 255. `deviation`: the largest standard deviation of a channel. `sharpness`: the variance of the Laplacian.
The last four are of the picture at the size that training sees."""

_ANGLES = np.outer(np.arange(HASH_FREQUENCIES), 2 * np.arange(HASH_SIDE) + 1) * (np.pi / (2 * HASH_SIDE))
_COSINES = np.cos(_ANGLES)
"""`(8, 32)`: the lowest rows of a discrete cosine transform (type II)."""


def facts_of(picture: Image.Image, side: int) -> npt.NDArray[np.void]:
    """Returns FACTS of an RGB picture, of which training sees `side` pixels along the shorter edge."""
    found = np.zeros((), FACTS)
    found["digest"] = _digest(picture)
    found["hash"] = perceptual_hash(picture)
    small = picture.resize((COLOURS_SIDE, COLOURS_SIDE), Image.Resampling.BILINEAR)
    found["colours"] = np.asarray(small).ravel()
    found["width"], found["height"] = picture.size
    seen = _shrunk(picture, side)
    grey = np.asarray(seen.convert("L"), np.float32)
    found["darkest"], found["lightest"] = np.percentile(grey, (1, 99))
    found["deviation"] = np.asarray(seen, np.float32).std(axis=(0, 1)).max()
    found["sharpness"] = _laplacian(grey).var()
    return found[()]


def perceptual_hash(picture: Image.Image) -> int:
    """Returns 64 bits: for each low frequency of the grey picture, whether it is above their median."""
    grey = picture.convert("L").resize((HASH_SIDE, HASH_SIDE), Image.Resampling.BILINEAR)
    waves = (_COSINES @ np.asarray(grey, np.float64) @ _COSINES.T).ravel()
    bits = waves > np.median(waves[1:])
    bits[0] = False  # the mean brightness, always above
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _digest(picture: Image.Image) -> int:
    digest = hashlib.blake2b(f"{picture.size}".encode(), digest_size=8)
    digest.update(picture.tobytes())
    return int.from_bytes(digest.digest(), "big")


def _shrunk(picture: Image.Image, side: int) -> Image.Image:
    shorter = min(picture.size)
    if shorter <= side:
        return picture
    width, height = (max(1, round(edge * side / shorter)) for edge in picture.size)
    return picture.resize((width, height), Image.Resampling.BILINEAR)


def _laplacian(grey: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns each inner pixel times four less its four neighbours; zero if there is no inner pixel."""
    if min(grey.shape) < 3:
        return np.zeros(1, np.float32)
    inner = grey[1:-1, 1:-1]
    return 4 * inner - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
