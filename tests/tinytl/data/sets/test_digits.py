from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from tests.support.cases import small
from tinytl.data.load import DataSplits, load_dataset

MakeFolder = Callable[..., Path]


def _sizes(data: DataSplits) -> dict[str, int | None]:
    parts = {"train": data.train, "val": data.val, "test": data.test}
    return {name: None if part is None else len(part) for name, part in parts.items()}


def test_digits() -> None:
    data = load_dataset(small(num_classes=None, seed=5))
    assert (data.name, data.classes, data.flip) == ("digits", tuple("0123456789"), False)
    assert _sizes(data) == {"train": 1079, "val": 359, "test": 359}
    assert data.test is not None
    for part in (data.train, data.val, data.test):
        assert part.images.shape == (len(part), 8, 8, 3)
        assert part.images.dtype == np.uint8 and part.labels.dtype == np.int64
        shares = np.bincount(part.labels) / np.array([178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
        assert np.ptp(shares) < 0.02
    assert data.train.images.max() == 255
    assert np.array_equal(data.train.images[..., 0], data.train.images[..., 2])


def test_digits_splits_are_disjoint_and_do_not_follow_the_seed() -> None:
    data, again = (load_dataset(small(num_classes=None, seed=seed)) for seed in (0, 1))
    assert np.array_equal(data.train.images, again.train.images)
    assert np.array_equal(data.val.labels, again.val.labels)
    assert data.test is not None
    parts = [part.images.reshape(len(part), -1) for part in (data.train, data.val, data.test)]
    rows = sorted(row.tobytes() for part in parts for row in part)
    grey = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    assert rows == sorted(np.repeat(g.ravel(), 3).tobytes() for g in grey)
