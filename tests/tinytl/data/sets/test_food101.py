"""What Food-101's reader alone promises; tests/tinytl/data/sets/test_named_set.py has what all sets share."""

import json
from pathlib import Path

import pytest

from tinytl.data.sets.food101 import FOOD101
from tinytl.errors import ConfigError


def _write(folder: Path, train: dict[str, list[str]], test: dict[str, list[str]]) -> Path:
    (folder / "images").mkdir()
    (folder / "meta").mkdir()
    for split, names in (("train", train), ("test", test)):
        (folder / "meta" / f"{split}.json").write_text(json.dumps(names))
    return folder


def test_paths_are_under_the_users_folder_whatever_its_name(tmp_path: Path) -> None:
    root = _write(tmp_path, {"pie": ["pie/1", "pie/2"], "baklava": ["baklava/3"]}, {"pie": [], "baklava": []})
    train = FOOD101.read(root, 37, print).train
    found = {train.path(i).relative_to(root).as_posix() for i in range(len(train))}  # type: ignore[union-attr]
    assert found == {"images/pie/1.jpg", "images/pie/2.jpg", "images/baklava/3.jpg"}


def test_two_lists_of_other_classes_are_a_damaged_set(tmp_path: Path) -> None:
    _write(tmp_path, {"pie": ["pie/1"], "tart": ["tart/1"]}, {"pie": ["pie/2"], "cake": ["cake/1"]})
    with pytest.raises(ConfigError, match=r"train.json and test.json name different classes") as caught:
        FOOD101.read(tmp_path, 37, print)
    assert str(caught.value).startswith(f"{tmp_path} is not as published")
    assert "\n" not in str(caught.value)
