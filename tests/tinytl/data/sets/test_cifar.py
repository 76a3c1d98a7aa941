"""What CIFAR's reader alone promises; tests/tinytl/data/sets/test_named_set.py has what all sets share."""

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.published_sets import cifar
from tinytl.data.sets.archive import extract
from tinytl.data.sets.cifar import CIFAR10, CIFAR100
from tinytl.errors import ConfigError

SETS = {"cifar10": (CIFAR10, "cifar-10-batches-py"), "cifar100": (CIFAR100, "cifar-100-python")}


def _silent(line: str) -> None:
    """Takes what is reported."""


def _rewrite(path: Path, **changes: Any) -> None:
    path.write_bytes(pickle.dumps(pickle.loads(path.read_bytes()) | changes))


@pytest.mark.parametrize("name", SETS)
def test_pixels_keep_their_place_and_color(tmp_path: Path, name: str) -> None:
    """Files have all of an image's red before its green, row by row; here `(N, 32, 32, 3)`."""
    known, folder = SETS[name]
    extract(cifar(tmp_path, name), tmp_path / folder, _silent)
    file = tmp_path / folder / {"cifar10": "data_batch_1", "cifar100": "train"}[name]
    flat = pickle.loads(file.read_bytes())["data"].copy()
    flat[0] = np.arange(3072) % 251
    _rewrite(file, data=flat)
    image = known.read(tmp_path, 37, _silent).train.images[0]  # type: ignore[union-attr]
    for row, column, color in ((0, 0, 0), (0, 31, 1), (31, 0, 2), (17, 5, 1)):
        assert image[row, column, color] == (color * 1024 + row * 32 + column) % 251


def test_the_hundred_fine_classes_are_read_and_not_the_twenty_coarse_ones(tmp_path: Path) -> None:
    extract(cifar(tmp_path, "cifar100"), tmp_path / "cifar-100-python", _silent)
    for file in ("train", "test"):
        labels = pickle.loads((tmp_path / "cifar-100-python" / file).read_bytes())["fine_labels"]
        _rewrite(tmp_path / "cifar-100-python" / file, coarse_labels=[label // 5 for label in labels])
    _rewrite(tmp_path / "cifar-100-python" / "meta", coarse_label_names=[f"coarse {i}" for i in range(20)])
    listing = CIFAR100.read(tmp_path, 37, _silent)
    assert len(listing.classes) == 100
    assert listing.test is not None
    assert listing.test.labels.tolist() == list(range(100))


def test_batches_that_disagree_on_their_number_are_named_by_folder(tmp_path: Path) -> None:
    extract(cifar(tmp_path, "cifar10"), tmp_path / "cifar-10-batches-py", _silent)
    file = tmp_path / "cifar-10-batches-py" / "test_batch"
    _rewrite(file, labels=[0, 1])
    message = f"{file.parent} is not as published (ValueError: 10 images, 2 labels): get it again"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        CIFAR10.read(tmp_path, 37, _silent)
