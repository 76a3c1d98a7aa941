from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tinytl.config.names import SAMPLINGS
from tinytl.data.batches import _order, eval_batches, labels_in_order, steps_per_epoch, train_batches
from tinytl.data.load import ImageSet
from tinytl.training.data_parallel import Ranks


def _images(n: int, side: int = 12) -> ImageSet:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8)
    return ImageSet(images, np.arange(n, dtype=np.int64))


def _train(data: ImageSet, **changes: Any) -> list[tuple[Tensor, Tensor]]:
    options = {"batch_size": 4, "resolution": 8, "crop_scale_min": 0.5, "flip": True, "seed": 0, "epoch": 0}
    return list(train_batches(data, **{**options, "drop_single": False, **changes}))


def _same(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) for left, right in pairs for a, b in zip(left, right, strict=True))


def test_an_epoch_depends_on_seed_and_epoch_alone() -> None:
    data = _images(10)
    first = _train(data, seed=3, epoch=2)
    torch.manual_seed(99)
    np.random.seed(99)
    assert _same(first, _train(data, seed=3, epoch=2))
    assert not _same(first, _train(data, seed=3, epoch=3))
    assert not _same(first, _train(data, seed=4, epoch=2))


def test_a_share_has_the_rows_of_the_whole_and_if_asked_the_one_before() -> None:
    data, changes = _images(10), {"rand_augment": 9, "sampling": "balanced"}
    whole = _train(data, **changes)
    for rank in range(3):
        led = _train(data, **changes, share=Ranks(rank, 3).share, row_before=True)
        plain = _train(data, **changes, share=Ranks(rank, 3).share)
        for (images, labels), own, before in zip(whole, plain, led, strict=True):
            rows = np.arange(len(labels))[Ranks(rank, 3).share(len(labels))]
            assert torch.equal(own[0], images[rows]) and torch.equal(own[1], labels[rows])
            rows = np.concatenate([(rows[:1] - 1) % len(labels), rows])
            assert torch.equal(before[0], images[rows]) and torch.equal(before[1], labels[rows])


def test_pictures_are_changed_before_they_are_cropped() -> None:
    data = _images(10)
    plain, changed, again = _train(data), _train(data, rand_augment=9), _train(data, rand_augment=9)
    assert _same(changed, again)
    assert not _same(changed, plain)
    assert all(torch.equal(one[1], other[1]) for one, other in zip(changed, plain, strict=True))
    assert not _same(changed, _train(data, rand_augment=9, epoch=1))


def test_every_image_once_in_an_order_of_the_epoch() -> None:
    orders = [torch.cat([labels for _, labels in _train(_images(10), epoch=e)]).tolist() for e in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(10))
    assert orders[0] != orders[1]
    assert orders[0] != list(range(10))


@pytest.mark.parametrize("resolution", [8, 12, 32])
def test_shapes_types_and_layout(resolution: int) -> None:
    batches = _train(_images(6), resolution=resolution) + list(
        eval_batches(_images(6), batch_size=4, resolution=resolution)
    )
    assert [tuple(images.shape) for images, _ in batches] == 2 * [
        (4, 3, resolution, resolution),
        (2, 3, resolution, resolution),
    ]
    for images, labels in batches:
        assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_whole_images_without_crop_and_flip() -> None:
    # A share of 1 still varies the aspect: a stripe pattern tells that the crop lies inside the image.
    data = _images(4)
    same = ImageSet(np.full_like(data.images, 7), data.labels)
    ((images, _),) = _train(same, crop_scale_min=1.0)
    assert images.unique().tolist() == [7]


def test_crops_and_flips() -> None:
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None], (64, 64, 3))
    data = ImageSet(np.stack([ramp] * 60), np.zeros(60, dtype=np.int64))

    def widths_and_falls(**changes: Any) -> tuple[list[int], int]:
        ((images, _),) = _train(data, batch_size=60, resolution=64, **changes)
        rows = images[:, 0, 0].to(torch.int64)
        return (rows[:, -1] - rows[:, 0]).abs().tolist(), int((rows[:, -1] < rows[:, 0]).sum())

    wide, falls = widths_and_falls(crop_scale_min=0.25, flip=True)
    # Widths: sqrt(area x aspect), between sqrt(1/4 x 3/4) = 0.43 and the whole of 64 pixels.
    assert 26 <= min(wide) < 40 and 60 <= max(wide) <= 63
    assert 15 < falls < 45
    assert widths_and_falls(crop_scale_min=0.25, flip=False)[1] == 0
    # Nothing but the aspect: at least sqrt(3/4) of the width.
    assert min(widths_and_falls(crop_scale_min=1.0, flip=False)[0]) >= 53


@pytest.mark.parametrize("drop_single", [False, True])
@pytest.mark.parametrize(("n", "batch_size"), [(8, 4), (9, 4), (10, 4), (3, 4), (4, 2), (5, 2), (2, 8)])
def test_steps_per_epoch_counts_the_batches(n: int, batch_size: int, drop_single: bool) -> None:
    sizes = [len(y) for _, y in _train(_images(n), batch_size=batch_size, drop_single=drop_single)]
    assert steps_per_epoch(n, batch_size, drop_single) == len(sizes)
    full, rest = divmod(n, batch_size)
    kept = [rest] if rest > 1 or (rest == 1 and not drop_single) else []
    assert sizes == [batch_size] * full + kept


def test_evaluation_is_in_order_and_whole() -> None:
    data = _images(5, side=8)
    batches = list(eval_batches(data, batch_size=2, resolution=8))
    assert [labels.tolist() for _, labels in batches] == [[0, 1], [2, 3], [4]]
    images = torch.cat([images for images, _ in batches])
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), data.images)


def test_read_only_arrays_are_served_and_left_as_they_are() -> None:
    data = _images(5)
    data.images.flags.writeable = data.labels.flags.writeable = False
    before = data.images.copy()
    for images, labels in _train(data) + list(eval_batches(data, batch_size=2, resolution=12)):
        images.zero_()
        labels.zero_()
    assert np.array_equal(data.images, before)
    assert data.labels.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_process_s_share_is_that_of_the_whole_batch(rank: int) -> None:
    data, share = _images(10), Ranks(rank, 3).share
    whole, part = _train(data), _train(data, share=share)
    expected = [(images[share(len(labels))], labels[share(len(labels))]) for images, labels in whole]
    assert _same(expected, part)


def test_batches_larger_than_what_is_resized_at_a_time() -> None:
    data = _images(9, side=300)
    ((images, _),) = eval_batches(data, batch_size=9, resolution=300)
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), data.images)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_labels_of_an_epoch_are_those_of_its_batches_without_an_image(sampling: str) -> None:
    data = _images(10)
    for epoch in (0, 3):
        batches = _train(data, seed=7, epoch=epoch, sampling=sampling)
        found = labels_in_order(data, sampling, 7, epoch)
        assert found.tolist() == [label for _, labels in batches for label in labels.tolist()]


def test_balanced_sampling_has_every_class_alike_and_every_image_before_one_comes_again() -> None:
    labels = np.repeat(np.arange(3), [20, 9, 2])
    drawn = []
    for epoch in range(6):
        order, _ = _order(labels, "balanced", 5, epoch)
        assert len(order) == len(labels)
        n_images = np.bincount(labels[order])
        assert sorted(n_images) == [10, 10, 11]
        for label in range(3):
            times = np.bincount(order[labels[order] == label], minlength=len(labels))[labels == label]
            assert times.max() - times.min() <= 1
        drawn.append(order)
    assert not np.array_equal(drawn[0], drawn[1])
    assert np.array_equal(drawn[0], _order(labels, "balanced", 5, 0)[0])
    assert len({int(np.bincount(labels[order]).argmax()) for order in drawn}) > 1  # the odd one out is drawn
    assert len(np.unique(np.concatenate(drawn)[labels[np.concatenate(drawn)] == 0])) == 20


def test_balanced_sampling_of_equal_classes_has_each_image_once() -> None:
    labels = np.arange(12) % 4
    assert sorted(_order(labels, "balanced", 0, 2)[0]) == list(range(12))


def test_a_class_without_images_is_left_out_of_balanced_sampling() -> None:
    labels = np.array([0, 0, 0, 3])
    assert np.bincount(labels[_order(labels, "balanced", 0, 0)[0]]).tolist() == [2, 0, 0, 2]
