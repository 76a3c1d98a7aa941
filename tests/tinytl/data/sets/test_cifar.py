"""What CIFAR's reader alone promises; tests/tinytl/data/sets/test_named_set.py has what all sets share."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision import datasets

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


class Runs:
    """A pickle that makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture
def published(published_alone: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small CIFAR-10 whose files have the digests that torchvision knows: its folder."""
    folder = tmp_path / "cifar-10-batches-py"
    extract(cifar(tmp_path, "cifar10"), folder, _silent)
    md5 = {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    monkeypatch.setattr(
        datasets.CIFAR10, "train_list", [(f"data_batch_{i}", md5[f"data_batch_{i}"]) for i in range(1, 6)]
    )
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [("test_batch", md5["test_batch"])])
    monkeypatch.setattr(datasets.CIFAR10, "meta", datasets.CIFAR10.meta | {"md5": md5["batches.meta"]})
    return folder


def test_the_published_files_are_read(published: Path) -> None:
    assert len(CIFAR10.read(published.parent, 37, _silent).classes) == 10
    assert len(CIFAR10.read(published, 37, _silent).classes) == 10  # the folder itself is --data-dir


@pytest.mark.parametrize("name", ["data_batch_1", "data_batch_5", "test_batch", "batches.meta"])
def test_a_pickle_that_is_not_the_published_file_is_not_read(published: Path, name: str) -> None:
    ran = published / "ran"
    (published / name).write_bytes(pickle.dumps(Runs(ran)))
    with pytest.raises(
        ConfigError, match=f"^{published / name} is not the published file .* so it is not read: "
    ):
        CIFAR10.read(published.parent, 37, _silent)
    assert not ran.exists()
    pickle.loads((published / name).read_bytes())
    assert ran.exists()


def test_a_changed_byte_and_a_missing_file_are_named(published: Path) -> None:
    batch = published / "data_batch_2"
    content = bytearray(batch.read_bytes())
    content[-100] ^= 1
    batch.write_bytes(content)
    with pytest.raises(ConfigError, match=f"^{batch} is not the published file"):
        CIFAR10.read(published, 37, _silent)
    batch.unlink()
    with pytest.raises(
        ConfigError, match=rf"^{batch} does not read \(No such file or directory\): get it again$"
    ):
        CIFAR10.read(published, 37, _silent)


@pytest.mark.parametrize("name", SETS)
def test_what_is_made_up_is_refused(published_alone: None, tmp_path: Path, name: str) -> None:
    """With torchvision's own digests."""
    known, _ = SETS[name]
    cifar(tmp_path, name)
    with pytest.raises(ConfigError, match="is not the published file"):
        known.read(tmp_path, 37, _silent)
