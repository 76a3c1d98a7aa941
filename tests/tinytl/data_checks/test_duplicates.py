from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.checked_pictures import checked_set, patterned, several, write_pictures
from tinytl.data_checks.duplicates import find_duplicates
from tinytl.data_checks.findings import Finding
from tinytl.data_checks.scan import scan

ROOM = {"train/cat": 4, "train/dog": 4, "val/cat": 2, "val/dog": 2, "test/cat": 1, "test/dog": 1}


def _found(root: Path, pictures: dict[str, Image.Image]) -> list[Finding]:
    whole = checked_set(write_pictures(root, several(ROOM) | pictures))
    facts, broken = scan(whole, 64)
    assert not broken
    return find_duplicates(whole, facts, np.arange(len(whole)))


def _bright(picture: Image.Image) -> Image.Image:
    return Image.fromarray(np.clip(np.asarray(picture, np.int64) + 4, 0, 255).astype(np.uint8))


SAME, NEAR = (lambda p: p), _bright
CASES = {
    "train and val": ("val/cat/a.png", "train/cat/b.png", SAME, "leak", "which is in val, not train"),
    "val and test": ("test/dog/a.png", "val/dog/b.png", SAME, "leak", "which is in test, not val"),
    "other label": (
        "val/cat/a.png",
        "train/dog/b.png",
        SAME,
        "leak",
        "which is in val, not train and is labelled cat, not dog",
    ),
    "one split": (
        "train/cat/a.png",
        "train/cat/b.png",
        SAME,
        "duplicate",
        "the same picture as train/cat/a.png",
    ),
    "two labels": (
        "train/cat/a.png",
        "train/dog/a.png",
        SAME,
        "conflict",
        "the same picture as train/cat/a.png, which is labelled cat, not dog",
    ),
    "other bytes": ("val/cat/a.png", "train/cat/b.bmp", SAME, "leak", "the same picture as val/cat/a.png"),
    "a JPEG": (
        "val/cat/a.png",
        "train/cat/b.jpg",
        SAME,
        "near_leak",
        "nearly the same picture as val/cat/a.png",
    ),
    "brighter": ("train/cat/a.png", "train/cat/b.png", NEAR, "near_duplicate", "nearly the same"),
    "smaller": (
        "train/cat/a.png",
        "train/dog/b.png",
        lambda p: p.resize((48, 48)),
        "near_conflict",
        "which is labelled cat, not dog",
    ),
}


@pytest.mark.parametrize(("one", "other", "change", "kind", "words"), CASES.values(), ids=CASES)
def test_two_that_are_alike(tmp_path: Path, one: str, other: str, change, kind: str, words: str) -> None:
    (finding,) = _found(tmp_path, {one: patterned(7), other: change(patterned(7))})
    assert (finding.kind, finding.file, finding.compared_with) == (kind, other, one)
    assert words in finding.reason and finding.split == other.split("/")[0]
    assert finding.label == other.split("/")[1]
    assert (finding.number == 0) or kind.startswith("near_")


def test_pictures_that_differ_are_not_flagged(tmp_path: Path) -> None:
    grey = Image.fromarray(np.asarray(patterned(5).convert("L"))[..., None].repeat(3, 2))
    tinted = [np.clip(np.asarray(grey, np.int64) * tint, 0, 255) for tint in ([1, 0.4, 0.4], [0.4, 0.4, 1])]
    red, blue = (Image.fromarray(picture.astype(np.uint8)) for picture in tinted)
    pictures = {"train/cat/red.png": red, "train/dog/blue.png": blue}
    pictures |= {f"train/cat/grey{i}.png": Image.new("RGB", (64, 64), (i, i, i)) for i in range(9, 12)}
    assert _found(tmp_path, pictures) == []


def test_of_many_copies_one_stays(tmp_path: Path) -> None:
    names = ["test/cat/z.png", "val/cat/z.png", "train/cat/y.png", "train/cat/z.png", "train/dog/z.png"]
    found = _found(tmp_path, {name: patterned(3) for name in names})
    assert {(f.kind, f.file, f.compared_with) for f in found} == {
        ("leak", name, "test/cat/z.png") for name in names[1:]
    }
    assert sum("labelled" in f.reason for f in found) == 1


def test_of_several_that_are_nearly_alike_the_gravest_is_named(tmp_path: Path) -> None:
    pictures = {"val/cat/a.png": _bright(patterned(3)), "train/cat/b.png": patterned(3)}
    found = _found(tmp_path, pictures | {"train/cat/c.png": patterned(3).resize((60, 60))})
    assert [(f.file, f.compared_with) for f in found] == [
        ("train/cat/b.png", "val/cat/a.png"),
        ("train/cat/c.png", "val/cat/a.png"),
    ]


def test_pictures_of_one_colour_each_are_not_compared(tmp_path: Path) -> None:
    places = {"train/cat": "red", "train/dog": "blue", "val/cat": "lime"}
    plain = {f"{place}/a.png": Image.new("RGB", (32, 32), colour) for place, colour in places.items()}
    whole = checked_set(write_pictures(tmp_path, plain))
    facts, _ = scan(whole, 64)
    assert find_duplicates(whole, facts, np.arange(len(whole))) == []
    assert find_duplicates(whole, facts, np.arange(0)) == []
