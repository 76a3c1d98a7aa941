"""Batches that travel ahead are those of a CPU, in its order, and nothing waits for a GPU."""

import multiprocessing
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.support.cases import small
from tests.support.host_syncs import HostSyncs
from tinytl.data.batches import eval_batches, train_batches
from tinytl.data.crops import Crop
from tinytl.data.load import load_dataset
from tinytl.data.sending import PLACES, SentBatch, Wanted, one_ahead, sent_batches
from tinytl.data.splits import ImageSet, Split
from tinytl.device import gpu_emulated
from tinytl.errors import ConfigError
from tinytl.training.data_parallel import Ranks

CPU = torch.device("cpu")


def _images(n: int, side: int = 20) -> ImageSet:
    rng = np.random.default_rng(0)
    return ImageSet(rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8), np.arange(n, dtype=np.int64))


def _train(data: Split, **changes: Any) -> Iterator[tuple[Tensor, Tensor]]:
    options = {"batch_size": 4, "resolution": 16, "crop_scale_min": 0.5, "flip": True, "seed": 0, "epoch": 0}
    return train_batches(data, **{**options, "drop_single": False, **changes})


def _evaluated(data: Split) -> Iterator[tuple[Tensor, Tensor]]:
    return eval_batches(data, batch_size=4, resolution=24)


def _assert_same(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> None:
    for (images, labels), (others, other_labels) in zip(one, other, strict=True):
        assert torch.equal(labels, other_labels)
        assert images.shape == others.shape and images.is_contiguous(memory_format=torch.channels_last)
        assert (images.int() - others.int()).abs().max() <= 1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"batch_size": 3, "drop_single": True},
        {"share": Ranks(1, 3).share, "batch_size": 5},
        {"resized_at_once": 1},
        {"batch_size": 99, "seed": 5},
    ],
)
def test_a_gpu_gets_the_batches_of_a_cpu(changes: dict[str, Any]) -> None:
    data = _images(10)
    expected = list(_train(data, **changes))
    with gpu_emulated():
        _assert_same(list(_train(data, **changes)), expected)


def test_a_gpu_gets_the_whole_images_of_an_evaluation() -> None:
    data = _images(10)
    expected = list(_evaluated(data))
    with gpu_emulated():
        _assert_same(list(_evaluated(data)), expected)


def test_pictures_of_any_size_come_whole() -> None:
    # At 300 px one picture is read at a time; resized to its own size it stays what it is.
    data = _images(5, side=300)
    with gpu_emulated():
        ((images, _),) = eval_batches(data, batch_size=9, resolution=300)
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), data.images)


@pytest.mark.parametrize("batches", [_train, _evaluated])
def test_the_host_does_not_wait_for_a_gpu_while_batches_travel(
    batches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _images(10)
    gpu = torch.device("cuda")
    options = {"batch_size": 4, "resolution": 16, "device": gpu}
    if batches is _train:
        options |= {"crop_scale_min": 0.5, "flip": True, "seed": 0, "epoch": 0, "drop_single": False}
    found = train_batches if batches is _train else eval_batches
    with FakeTensorMode(allow_non_fake_inputs=True), HostSyncs() as syncs:
        made = list(found(data, **options))
    assert [len(images) for images, _ in made] == [4, 4, 2]
    assert {tensor.device.type for batch in made for tensor in batch} == {"cuda"}
    assert syncs.found == []


def _sent(n_batches: int, asked: list[int]) -> Iterator[SentBatch]:
    def pictures() -> Iterator[Tensor]:
        for number in range(n_batches):
            asked.append(number)
            yield torch.full((2, 4, 4, 3), number, dtype=torch.uint8)

    wanted = (Wanted([Crop(0, 0, 4, 4)] * 2, np.full(2, number)) for number in range(n_batches))
    return sent_batches(pictures(), wanted, most=2, side=4, device=CPU)


def test_the_next_batch_is_asked_for_before_one_is_handed_out() -> None:
    asked: list[int] = []
    seen = []
    for batch in one_ahead(_sent(5, asked)):
        seen.append((int(batch.pictures.unique()), int(batch.labels.unique()), len(asked)))
    assert seen == [(0, 0, 2), (1, 1, 3), (2, 2, 4), (3, 3, 5), (4, 4, 5)]


def test_a_place_in_memory_is_used_again() -> None:
    batches = list(_sent(3 * PLACES, []))
    # What was sent before is its own: no later batch has written there.
    assert [int(batch.pictures.unique()) for batch in batches] == list(range(3 * PLACES))
    assert len({batch.pictures.data_ptr() for batch in batches}) == 3 * PLACES


def test_nothing_of_a_batch_is_kept_once_it_is_handed_out() -> None:
    ahead = one_ahead(_sent(4, []))
    with gpu_emulated():
        batches = _train(_images(12))
        images = [weakref.ref(next(batches)[0]) for _ in range(2)]
    pictures = [weakref.ref(next(ahead).pictures) for _ in range(2)]
    assert [held() for held in images + pictures] == [None] * 4


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_items_come_as_they_are(n: int) -> None:
    assert list(one_ahead(iter(range(n)))) == list(range(n))


def test_an_error_comes_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise ConfigError("3 does not decode")

    ahead = one_ahead(items())
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(ConfigError, match=r"^3 does not decode$"):
        next(ahead)


@pytest.fixture
def files(tmp_path: Path) -> Split:
    """Twelve pictures in files that stream, in two classes."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 2)):
        for i in range(count):
            path = tmp_path / split / "ab"[i % 2] / f"{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    fields = {"dataset": "imagefolder", "data_dir": str(tmp_path), "num_classes": None, "loading": "stream"}
    return load_dataset(small(**fields)).train


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_does_not_decode_ends_the_epoch_at_its_batch(files: Any, workers: int) -> None:
    order = np.random.default_rng((0, 0)).permutation(12)
    broken = files.path(int(order[5]))  # in the second batch of four
    broken.write_bytes(broken.read_bytes()[:60])
    with gpu_emulated():
        batches = _train(files, workers=workers)
        assert next(batches)[1].tolist() == files.labels[order[:4]].tolist()
        with pytest.raises(ConfigError, match=f"^{broken} does not decode as an image"):
            next(batches)
    assert multiprocessing.active_children() == []


def test_an_epoch_left_early_leaves_no_process(files: Split) -> None:
    with gpu_emulated():
        batches = _train(files, workers=2, batch_size=2)
        next(batches)
        assert len(multiprocessing.active_children()) == 2
        batches.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


def test_the_order_of_files_is_that_of_memory_with_any_number_of_workers(files: Split) -> None:
    expected = list(_train(files, workers=0))
    with gpu_emulated():
        _assert_same(list(_train(files, workers=2)), expected)
