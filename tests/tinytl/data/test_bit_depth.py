from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinytl.data.bit_depth import eight_bits
from tinytl.data.pictures import decode_square
from tinytl.errors import ConfigError

RAMP = np.linspace(0, 1, 256).reshape(16, 16)


def shown(values: np.ndarray) -> np.ndarray:
    return np.asarray(eight_bits(Image.fromarray(values)))


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_integers_keep_the_highest_bits_that_the_picture_uses(bits: int) -> None:
    values = np.round(RAMP * (2**bits - 1)).astype(np.uint16)
    assert np.abs(shown(values).astype(int) - RAMP * 255).max() <= 1


@pytest.mark.parametrize(("most", "low"), [(2**16 - 1, 0), (2**31 - 1, 0), (1000, -1000)])
def test_integers_of_32_bits(most: int, low: int) -> None:
    values = np.round(low + RAMP * (most - low)).astype(np.int32)
    assert np.abs(shown(values).astype(int) - RAMP * 255).max() <= 1


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (-1, 1), (0, 4095), (0, 1e6)])
def test_floats_count_from_what_they_are_usually_written_in(low: float, high: float) -> None:
    values = (low + RAMP * (high - low)).astype(np.float32)
    assert np.abs(shown(values).astype(int) - RAMP * 255).max() <= 1


@pytest.mark.parametrize("value", [0.5, 1.0])
def test_a_plain_float_picture_keeps_its_grey(value: float) -> None:
    assert (shown(np.full((4, 4), value, np.float32)) == round(value * 255)).all()


def test_an_even_picture_of_negative_numbers_is_black_not_an_error() -> None:
    assert (shown(np.full((4, 4), -3, np.int32)) == 0).all()


def test_other_pictures_are_left_alone() -> None:
    picture = Image.new("RGB", (4, 4), (1, 2, 3))
    assert eight_bits(picture) is picture


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_floats_that_are_no_numbers_are_refused_by_name(tmp_path: Path, value: float) -> None:
    Image.fromarray(np.full((4, 4), value, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ConfigError, match=r"a\.tif does not decode as an image \(a pixel is not finite\)"):
        decode_square(tmp_path / "a.tif", 4)
