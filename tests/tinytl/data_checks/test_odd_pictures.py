from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.checked_pictures import blurred, checked_set, patterned, several, write_pictures
from tinytl.data_checks.checked_set import CheckedSet
from tinytl.data_checks.findings import Finding
from tinytl.data_checks.odd_pictures import deviations, find_odd_pictures
from tinytl.data_checks.scan import scan

USUAL = several({"cat": 10, "dog": 10})
ODD = {
    "dark": patterned(1, low=0, high=30),
    "bright": patterned(1, low=235, high=255),
    "blurred": blurred(patterned(1)),
    "one_colour": Image.new("RGB", (64, 64), (90, 120, 60)),
    "tiny": patterned(1, (14, 14)),
    "odd_shape": patterned(1, (320, 64)),
}


def _found(pictures: CheckedSet, resolution: int = 64) -> list[Finding]:
    facts, _ = scan(pictures, resolution)
    return find_odd_pictures(pictures, facts, np.arange(len(pictures)), resolution)


def _of(root: Path, pictures: dict[str, Image.Image], resolution: int = 64) -> list[tuple[str, str]]:
    return [(f.kind, f.file) for f in _found(checked_set(write_pictures(root, pictures)), resolution)]


@pytest.mark.parametrize("kind", ODD)
def test_each_kind_is_found_alone(tmp_path: Path, kind: str) -> None:
    assert _of(tmp_path, USUAL | {"cat/odd.png": ODD[kind]}) == [(kind, "cat/odd.png")]


def test_usual_pictures_are_not_flagged(tmp_path: Path) -> None:
    shapes = {f"dog/wide{i}.png": patterned(50 + i, (96, 64)) for i in range(4)}
    assert _of(tmp_path, USUAL | shapes | {"cat/rather dark.png": patterned(2, low=0, high=120)}) == []


def test_an_upright_picture_among_wide_ones_is_odd_by_its_own_shape(tmp_path: Path) -> None:
    wide = {name: picture.resize((192, 64)) for name, picture in USUAL.items()}
    assert _of(tmp_path, wide) == []
    assert _of(tmp_path, wide | {"cat/odd.png": patterned(1, (64, 192))}) == [("odd_shape", "cat/odd.png")]


STYLES = {
    "dark": lambda seed: patterned(seed, low=0, high=30),
    "bright": lambda seed: patterned(seed, low=235, high=255),
    "blurred": lambda seed: blurred(patterned(seed)),
    "one_colour": lambda seed: Image.new("RGB", (64, 64), (seed, 120, 60)),
    "tiny": lambda seed: patterned(seed, (14, 14)),
    "odd_shape": lambda seed: patterned(seed, (320, 64)),
}


@pytest.mark.parametrize("style", STYLES)
def test_what_all_pictures_are_is_not_odd(tmp_path: Path, style: str) -> None:
    pictures = {
        f"{label}/{i}.png": STYLES[style](10 * i + k) for k, label in enumerate("ab") for i in range(8)
    }
    assert [kind for kind, _ in _of(tmp_path, pictures) if kind == style] == []


def test_a_black_picture_stands_out_in_a_dark_set(tmp_path: Path) -> None:
    pictures = {
        f"{label}/{i}.png": STYLES["dark"](10 * i + k) for k, label in enumerate("ab") for i in range(8)
    }
    black = np.asarray(patterned(1)) // 64
    assert _of(tmp_path, pictures | {"a/odd.png": Image.fromarray(black)})[0][1] == "a/odd.png"


def test_the_bundled_digits_have_no_odd_picture() -> None:
    """8 x 8 pixels, a digit on black: small, dark in the mean, and all alike in that."""
    assert _found(checked_set(), 96) == []


def test_the_oddest_is_first_and_says_why(tmp_path: Path) -> None:
    pictures = {f"cat/dark{high}.png": patterned(high, low=0, high=high) for high in (40, 20, 30)}
    found = _found(checked_set(write_pictures(tmp_path, USUAL | pictures)))
    assert [f.file for f in found] == ["cat/dark20.png", "cat/dark30.png", "cat/dark40.png"]
    assert found[0].reason == f"99 % of it is darker than {found[0].number:.0f} of 255"
    assert found[0].label == "cat" and found[0].number <= 20


def test_deviations_are_of_doublings() -> None:
    np.testing.assert_allclose(deviations(np.array([3.0, 3.0, 3.0, 4.05])), [0, 0, 0, 3.5])
    spread = deviations(np.array([0.0, 1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_allclose(spread, np.array([-2, -1, 0, 1, 2]) / 1.4826)
    assert len(deviations(np.array([]))) == 0
