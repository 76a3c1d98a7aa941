import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from tests.support.checked_pictures import blurred, patterned
from tinytl.data_checks.facts import FACTS, facts_of, perceptual_hash


def _bits(one: Image.Image, other: Image.Image) -> int:
    return (perceptual_hash(one) ^ perceptual_hash(other)).bit_count()


def _as_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return Image.open(out).convert("RGB")


ALIKE = {
    "a JPEG": lambda p: _as_jpeg(p, 60),
    "half the size": lambda p: p.resize((p.width // 2, p.height // 2)),
    "twice the size": lambda p: p.resize((p.width * 2, p.height * 2)),
    "brighter": lambda p: ImageEnhance.Brightness(p).enhance(1.05),
    "less contrast": lambda p: ImageEnhance.Contrast(p).enhance(0.9),
}


@pytest.mark.parametrize("change", ALIKE.values(), ids=ALIKE)
def test_the_hash_of_the_same_picture_hardly_changes(change) -> None:
    distances = [_bits(patterned(seed), change(patterned(seed))) for seed in range(20)]
    assert max(distances) <= 4


def test_the_hashes_of_other_pictures_are_far() -> None:
    distances = [_bits(patterned(one), patterned(other)) for one in range(12) for other in range(one)]
    assert min(distances) > 10 and 24 < np.mean(distances) < 38


def test_the_digest_is_of_all_pixels_and_the_size() -> None:
    picture = patterned(0)
    assert facts_of(picture, 32)["digest"] == facts_of(picture.copy(), 16)["digest"]
    changed = np.asarray(picture).copy()
    changed[63, 63, 2] ^= 1
    turned = Image.fromarray(np.asarray(picture).reshape(32, 128, 3))
    digests = {int(facts_of(p, 32)["digest"]) for p in (picture, Image.fromarray(changed), turned)}
    assert len(digests) == 3


def test_figures_of_pictures_by_hand() -> None:
    black = facts_of(Image.new("RGB", (40, 20)), 96)
    assert (black["width"], black["height"]) == (40, 20)
    assert black["lightest"] == black["darkest"] == black["deviation"] == black["sharpness"] == 0
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:, 32:] = 200
    two = facts_of(Image.fromarray(halves), 96)
    assert (two["darkest"], two["lightest"], two["deviation"]) == (0, 200, 100)
    # Two of 62 inner columns differ from a neighbour: by 200 and by -200.
    assert two["sharpness"] == pytest.approx(200**2 * 2 / 62, rel=1e-5)
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    np.testing.assert_array_equal(facts_of(Image.fromarray(red), 96)["colours"].reshape(8, 8, 3), red)


def test_sharpness_is_of_what_training_sees() -> None:
    big = patterned(3, (256, 256))
    small = big.resize((64, 64), Image.Resampling.BILINEAR)
    assert facts_of(big, 64)["sharpness"] == facts_of(small, 64)["sharpness"]
    assert facts_of(blurred(patterned(3)), 64)["sharpness"] < 0.01 * facts_of(patterned(3), 64)["sharpness"]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (2, 2), (3, 1)])
def test_pictures_of_any_size_have_facts(size: tuple[int, int]) -> None:
    found = facts_of(Image.new("RGB", size, "red"), 96)
    assert found.dtype == FACTS and (found["width"], found["height"]) == size


def test_a_picture_leaves_few_bytes() -> None:
    assert FACTS.itemsize == 232  # as the documents say
