from pathlib import Path

from tests.support.checked_pictures import checked_set, several, write_pictures
from tinytl.data_checks.class_counts import find_thin_classes
from tinytl.data_checks.findings import Finding


def _found(root: Path, counts: dict[str, int], least: int = 3) -> list[Finding]:
    return find_thin_classes(checked_set(write_pictures(root, several(counts))), least)


def test_an_even_set_is_not_flagged(tmp_path: Path) -> None:
    assert _found(tmp_path, {"train/a": 4, "train/b": 5, "val/a": 1, "val/b": 1}) == []


def test_thin_and_missing_classes_are_named(tmp_path: Path) -> None:
    found = _found(tmp_path, {"train/a": 5, "train/b": 2, "train/c": 5, "val/a": 1, "val/b": 2})
    assert [(f.kind, f.split, f.label, f.number) for f in found] == [
        ("missing_class", "val", "c", 0),
        ("few_pictures", "train", "b", 2),
    ]
    assert found[1].reason == "b has 2 training pictures, fewer than 3"


def test_imbalance_says_what_the_largest_class_alone_is_worth(tmp_path: Path) -> None:
    (finding,) = _found(tmp_path, {"train/a": 12, "train/b": 4, "val/a": 3, "val/b": 1})
    assert (finding.kind, finding.label, finding.compared_with, finding.number) == (
        "imbalance",
        "a",
        "b",
        3.0,
    )
    assert finding.reason == (
        "a has 12 training pictures, b 4: 3.0 times as many. Naming a every time gives an accuracy of 75.0 % "
        "in val"
    )


def test_a_class_with_one_picture_is_said_and_no_mistake(tmp_path: Path) -> None:
    """Without splits the one picture stays for training."""
    found = _found(tmp_path, {"a": 10, "b": 10, "c": 1})
    assert {(f.kind, f.split, f.label) for f in found} == {
        ("missing_class", "test", "c"),
        ("missing_class", "val", "c"),
        ("few_pictures", "train", "c"),
        ("imbalance", "train", "a"),
    }
    assert "c has 1 training picture, fewer than 3" in [f.reason for f in found]
