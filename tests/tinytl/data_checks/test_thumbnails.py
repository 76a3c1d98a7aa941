import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.checked_pictures import patterned
from tinytl.data_checks.thumbnails import MOST_BYTES, thumbnail


def _size(content: bytes | None) -> tuple[int, int]:
    assert content is not None
    with Image.open(io.BytesIO(content)) as opened:
        assert opened.format == "JPEG"
        return opened.size


@pytest.mark.parametrize(
    ("size", "shown"),
    [((200, 100), (96, 48)), ((100, 400), (24, 96)), ((20, 10), (20, 10)), ((96, 96), (96, 96))],
)
def test_it_fits_and_never_grows(tmp_path: Path, size: tuple[int, int], shown: tuple[int, int]) -> None:
    smooth = Image.fromarray(np.asarray(patterned(0).resize((4, 4)))).resize(size)
    smooth.save(tmp_path / "a.png")
    assert _size(thumbnail(smooth)) == _size(thumbnail(tmp_path / "a.png")) == shown
    assert _size(thumbnail(np.asarray(smooth))) == shown
    assert smooth.size == size


@pytest.mark.parametrize("most_bytes", [1024, 2048, MOST_BYTES])
def test_noise_too_stays_within_its_bytes(most_bytes: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    content = thumbnail(noise, 256, most_bytes)
    assert content is not None and len(content) <= most_bytes
    assert min(_size(content)) > 8


def test_a_file_that_does_not_decode_has_none(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    assert thumbnail(tmp_path / "a.png") is None


def test_tall_and_thin_pictures_keep_a_pixel() -> None:
    assert _size(thumbnail(Image.new("RGB", (4000, 1)))) == (96, 1)
