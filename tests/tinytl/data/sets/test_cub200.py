"""What CUB's reader alone promises; tests/tinytl/data/sets/test_named_set.py has what all sets share."""

from pathlib import Path

import pytest

from tinytl.data.sets.cub200 import CUB200
from tinytl.errors import ConfigError

TABLES = {
    "classes": "1 001.Albatross\n2 002.Laysan albatross\n",
    "images": "1 001.Albatross/x.jpg\n2 002.Laysan albatross/a file.jpg\n3 001.Albatross/y.jpg\n",
    "image_class_labels": "3 1\n1 1\n2 2\n",
    "train_test_split": "2 1\n3 0\n1 1\n",
}


def _write(folder: Path, **changes: str) -> Path:
    for name, text in (TABLES | changes).items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def test_tables_are_joined_by_number_not_by_line(tmp_path: Path) -> None:
    listing = CUB200.read(_write(tmp_path), 37, print)
    assert listing.classes == ("001.Albatross", "002.Laysan albatross")
    assert listing.val is None
    assert listing.test is not None
    found = {
        split: [(part.path(i), int(part.labels[i])) for i in range(len(part))]  # type: ignore[union-attr]
        for split, part in (("train", listing.train), ("test", listing.test))
    }
    images = tmp_path / "images"
    assert found["train"] == [
        (images / "001.Albatross" / "x.jpg", 0),
        (images / "002.Laysan albatross" / "a file.jpg", 1),
    ]
    assert found["test"] == [(images / "001.Albatross" / "y.jpg", 0)]


@pytest.mark.parametrize(
    ("table", "text", "message"),
    [
        ("train_test_split", "1 1\n2 1\n", "do not name the same images"),
        ("image_class_labels", "1 1\n2 2\n3 1\n4 1\n", "do not name the same images"),
        ("image_class_labels", "1 1\n2 2\n3 7\n", "KeyError: '7'"),
        ("train_test_split", "1 1\n2 1\n3 5\n", "KeyError: '5'"),
        ("images", "1\n", "images.txt does not read"),
    ],
)
def test_tables_that_do_not_fit_are_named_in_one_line(
    tmp_path: Path, table: str, text: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        CUB200.read(_write(tmp_path, **{table: text}), 37, print)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert str(caught.value).endswith("get it again")
    assert "\n" not in str(caught.value)
