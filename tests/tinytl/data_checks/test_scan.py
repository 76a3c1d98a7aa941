from pathlib import Path

import numpy as np

from tests.support.checked_pictures import checked_set, patterned, several, write_pictures
from tinytl.data_checks.checked_set import CheckedSet
from tinytl.data_checks.facts import facts_of
from tinytl.data_checks.scan import broken_files, scan


def test_each_picture_is_decoded_once_in_order(tmp_path: Path, monkeypatch) -> None:
    pictures = checked_set(
        write_pictures(tmp_path, several({"train/a": 5, "train/b": 4, "val/a": 2, "val/b": 2}))
    )
    monkeypatch.setattr("tinytl.data_checks.scan.AT_ONCE", 4)
    decoded, original, advanced = [], CheckedSet.picture, []

    def counted(self, row, at_least=None):
        decoded.append(row)
        return original(self, row, at_least)

    monkeypatch.setattr(CheckedSet, "picture", counted)
    facts, broken = scan(pictures, 32, advanced.append)
    assert sorted(decoded) == list(range(13)) and advanced == [1] * 13 and not broken
    for row in range(13):
        picture = original(pictures, row)
        assert facts[row].tobytes() == facts_of(picture, 32).tobytes()
    assert len(np.unique(facts["digest"])) == 13


def test_what_does_not_decode_is_a_finding_of_its_own(tmp_path: Path) -> None:
    root = write_pictures(tmp_path, several({"train/a": 3, "train/b": 3, "val/a": 1, "val/b": 1}))
    (root / "train/b/1.png").write_bytes(b"\x89PNG")
    pictures = checked_set(root)
    facts, broken = scan(pictures, 32)
    (finding,) = broken_files(pictures, broken)
    assert (finding.kind, finding.split, finding.label, finding.file) == (
        "broken",
        "train",
        "b",
        "train/b/1.png",
    )
    assert finding.reason.startswith("it does not decode (it begins as no image")
    assert facts[next(iter(broken))].tobytes() == bytes(facts.dtype.itemsize)


def test_arrays_are_scanned_too() -> None:
    pictures = checked_set()
    facts, broken = scan(pictures, 32)
    assert not broken and set(facts["width"].tolist()) == {8}
    assert pictures.file(0) == "test/0" and pictures.file(len(pictures) - 1).startswith("train/")


def test_a_transparent_and_a_turned_picture_are_seen_as_training_sees_them(tmp_path: Path) -> None:
    pictures = several({"train/a": 2, "train/b": 2, "val/a": 1, "val/b": 1})
    pictures["train/a/0.png"] = patterned(0, (30, 60)).convert("RGBA")
    whole = checked_set(write_pictures(tmp_path, pictures))
    facts, _ = scan(whole, 32)
    row = next(row for row in range(len(whole)) if whole.file(row) == "train/a/0.png")
    assert (facts["width"][row], facts["height"][row]) == (30, 60)
