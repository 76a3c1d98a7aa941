from pathlib import Path

import pytest

from tests.support.checked_pictures import checked_set, several, write_pictures


def test_rows_know_their_split_class_and_file(tmp_path: Path) -> None:
    counts = {"train/a": 2, "train/b": 1, "val/a": 1, "val/b": 2, "test/b": 1}
    pictures = checked_set(write_pictures(tmp_path, several(counts)))
    rows = [(pictures.split(row), pictures.label(row), pictures.file(row)) for row in range(len(pictures))]
    assert rows == [
        ("test", "b", "test/b/0.png"),
        ("val", "a", "val/a/0.png"),
        ("val", "b", "val/b/0.png"),
        ("val", "b", "val/b/1.png"),
        ("train", "a", "train/a/0.png"),
        ("train", "a", "train/a/1.png"),
        ("train", "b", "train/b/0.png"),
    ]
    assert pictures.rows_of("val") == slice(1, 4) and pictures.rows_of("train") == slice(4, 7)
    assert pictures.picture(4).size == (64, 64)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="is not in list"):
        pictures.rows_of("dev")
