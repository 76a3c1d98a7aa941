import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tinytl.data.load import DataSplits, ImageFiles, ImageSet, Split, stratified_split
from tinytl.data.splits import with_val_trained

MakeFolder = Callable[..., Path]


@pytest.mark.parametrize(("fraction", "expected"), [(0.2, [2, 1, 1]), (0.5, [4, 2, 1]), (0.99, [7, 3, 1])])
def test_stratified_split(fraction: float, expected: list[int]) -> None:
    labels = np.array([0, 1, 0, 2, 0, 1, 0, 0, 2, 1, 0, 0, 1, 0])  # 8 of class 0, 4 of 1, 2 of 2
    first, second = stratified_split(labels, fraction, seed=0)
    assert np.bincount(labels[second]).tolist() == expected
    assert sorted([*first, *second]) == list(range(14))
    assert first.tolist() == sorted(first) and second.tolist() == sorted(second)
    again = stratified_split(labels, fraction, seed=0)
    assert np.array_equal(second, again[1])


def test_another_seed_splits_otherwise() -> None:
    labels = np.zeros(40, dtype=np.int64)
    splits = [tuple(stratified_split(labels, 0.5, seed)[1]) for seed in (0, 1)]
    assert splits[0] != splits[1]


def test_a_class_with_one_image_stays_in_the_first_part() -> None:
    first, second = stratified_split(np.array([0, 1, 1, 2]), 0.5, seed=0)
    assert len(second) == 1 and second[0] in (1, 2)
    assert {0, 3} < set(first)


def test_files_are_taken_by_rows() -> None:
    names = np.array([b"a/1.jpg", os.fsencode("b/\u00e9.jpg"), b"c.jpg"])
    files = ImageFiles("/data", names, np.array([0, 1, 2]), side=8)
    some = files.take(np.array([2, 1]))
    assert [some.path(i) for i in range(len(some))] == [Path("/data/c.jpg"), Path("/data/b/\u00e9.jpg")]
    assert some.labels.tolist() == [2, 1] and some.side == 8


@pytest.mark.parametrize("kind", ["arrays", "files"])
def test_validation_images_join_the_training_ones_and_none_are_left(kind, tmp_path):
    def part(name: str, labels: list[int]) -> Split:
        numbers = np.array(labels, dtype=np.int64)
        if kind == "arrays":
            return ImageSet(np.full((len(labels), 2, 2, 3), len(labels), np.uint8), numbers)
        names = np.array([f"{i}.png".encode() for i in range(len(labels))], dtype=np.bytes_)
        return ImageFiles(str(tmp_path / name), names, numbers, 8)

    train, val = part("train", [0, 1, 1]), part("val", [1, 0])
    data = DataSplits("d", ("a", "b"), train, val, None, 0.5, True, digest="0123")
    whole = with_val_trained(data)
    assert whole.train.labels.tolist() == [0, 1, 1, 1, 0] and len(whole.val) == 0
    assert whole.digest not in (None, data.digest)
    if isinstance(whole.train, ImageSet):
        assert whole.train.images[:, 0, 0, 0].tolist() == [3, 3, 3, 2, 2]
    else:
        assert whole.train.path(2) == train.path(2) and whole.train.path(3) == val.path(0)
