"""Files that stream give the images that memory gives, whoever decodes them."""

import copy
import dataclasses
import multiprocessing
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.support.cases import learnt, settled, small
from tinytl.data.batches import eval_batches, train_batches
from tinytl.data.load import DataSplits, ImageFiles, load_dataset
from tinytl.data.streaming import WORKERS_MAX, default_workers, stream_squares
from tinytl.errors import ConfigError
from tinytl.runs.trainer import Trainer


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of photographs of many sizes, JPEG and PNG, larger than what is stored."""
    rng = np.random.default_rng(0)
    for i in range(22):
        size = (int(rng.integers(60, 200)), int(rng.integers(60, 200)))
        noise = Image.fromarray(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8))
        path = tmp_path / "pictures" / "ab"[i % 2] / f"{i:02}.{('jpg', 'png')[i % 3 == 0]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise.resize(size, Image.Resampling.BICUBIC).save(path)
    return tmp_path / "pictures"


def _load(folder: Path, loading: str, **changes: Any) -> DataSplits:
    fields = {"dataset": "imagefolder", "data_dir": str(folder), "num_classes": None, "loading": loading}
    return load_dataset(small(**fields | changes))


def _batches(data: Any, **changes: Any) -> list[tuple[Tensor, Tensor]]:
    options = {"batch_size": 4, "resolution": 32, "crop_scale_min": 0.5, "flip": True, "seed": 1, "epoch": 2}
    return list(train_batches(data, **options | {"drop_single": False} | changes))


def _same(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) for left, right in pairs for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_memory_and_stream_give_the_same_images(folder: Path, workers: int) -> None:
    memory, stream = _load(folder, "memory"), _load(folder, "stream")
    assert isinstance(stream.train, ImageFiles)
    assert np.array_equal(memory.train.labels, stream.train.labels)
    assert memory.train.side == stream.train.side == 37
    for options in (
        {},
        {"share": lambda n: slice(1, 3)},
        {"drop_single": True, "batch_size": 3},
        {"rand_augment": 9},
    ):
        assert _same(_batches(memory.train, **options), _batches(stream.train, workers=workers, **options))
    whole = [
        list(eval_batches(data.val, batch_size=3, resolution=32, workers=workers))
        for data in (memory, stream)
    ]
    assert _same(*whole)


def test_batches_of_several_parts_come_together(folder: Path) -> None:
    # At 300 px one picture is decoded at a time.
    memory, stream = (_load(folder, loading, resolution=300).train for loading in ("memory", "stream"))
    assert stream.side == 343 and memory.side < 343
    ((images, _),) = eval_batches(stream, batch_size=99, resolution=300, workers=2)
    ((stored, _),) = eval_batches(memory, batch_size=99, resolution=300)
    # Stored at the largest picture's size and not at 343 px: resized once more.
    assert (images.float() - stored.float()).abs().mean() < 3


def test_an_epoch_left_early_ends_its_workers(folder: Path) -> None:
    batches = train_batches(
        _load(folder, "stream").train, batch_size=2, resolution=32, crop_scale_min=0.5, flip=True,
        seed=0, epoch=0, drop_single=False, workers=2,
    )  # fmt: skip
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    del batches


def test_torchs_generator_is_left_alone(folder: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    _batches(_load(folder, "stream").train, workers=1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_does_not_decode_is_named_in_one_line(folder: Path, workers: int) -> None:
    broken = folder / "a" / "02.jpg"
    broken.write_bytes(broken.read_bytes()[:700])
    data = _load(folder, "stream")  # found when it is read
    with pytest.raises(ConfigError) as caught:
        for part in (data.train, data.val, data.test):
            _batches(part, workers=workers)
    assert str(caught.value).startswith(f"{broken} does not decode as an image (")
    assert "\n" not in str(caught.value)


def test_empty_files_are_found_before(folder: Path) -> None:
    (folder / "b" / "05.jpg").write_bytes(b"")
    with pytest.raises(
        ConfigError, match=r"05.jpg does not decode as an image \(it is empty\): repair or remove it$"
    ):
        _load(folder, "stream")


def test_auto_streams_what_is_larger_than_the_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not isinstance(_load(folder, "auto").train, ImageFiles)
    monkeypatch.setattr("tinytl.data.sets.listing.MEMORY_LIMIT_MIB", 22 * 3 * 37**2 / 2**20 - 0.001)
    assert isinstance(_load(folder, "auto").train, ImageFiles)
    assert not isinstance(_load(folder, "memory").train, ImageFiles)


def test_arrays_do_not_stream() -> None:
    with pytest.raises(ConfigError, match=r"^loading=stream: digits is arrays, not image files"):
        load_dataset(small(num_classes=None, loading="stream"))


def test_training_from_a_stream_is_training_from_memory(folder: Path) -> None:
    config = settled(method="FT-Full", norm="group_norm", num_classes=None, epochs=2, dropout=0.3)
    results = []
    for loading, workers in (("memory", None), ("stream", 0), ("stream", 2)):
        trainer = Trainer(dataclasses.replace(config, loader_workers=workers), _load(folder, loading))
        metrics = [learnt(trainer.train_epoch().flat()) for _ in range(2)]
        found = trainer.evaluate(trainer.data.test)
        results.append((metrics, found.predicted.tolist(), found.losses.tolist()))
    assert results[0] == results[1] == results[2]


def test_a_run_from_a_stream_goes_on_as_if_it_had_not_stopped(folder: Path) -> None:
    config = settled(method="TinyTL-L+B", num_classes=None, epochs=2, loader_workers=1)
    data = _load(folder, "stream")
    whole = Trainer(config, data)
    whole.train_epoch()
    state = copy.deepcopy(whole.state_dict())
    resumed = Trainer(config, data)
    resumed.load_state_dict(state)
    assert learnt(resumed.train_epoch().flat()) == learnt(whole.train_epoch().flat())


def test_the_listing_is_all_that_is_sent(folder: Path) -> None:
    data = _load(folder, "stream")
    sent = pickle.loads(pickle.dumps(data))
    assert len(pickle.dumps(data)) < 5000
    assert _same(_batches(sent.train, workers=0), _batches(data.train, workers=0))


def test_parts_come_in_order(folder: Path) -> None:
    files = _load(folder, "stream").train
    parts = [np.array(part) for part in ([3, 1], [0], [2, 4, 5])]
    found = list(stream_squares(files, parts, workers=2))
    assert [len(squares) for squares in found] == [2, 1, 3]
    (one,) = stream_squares(files, [np.array([4])], workers=0)
    assert torch.equal(found[2][1], one[0])


def test_workers_by_default() -> None:
    assert 1 <= default_workers() <= WORKERS_MAX
