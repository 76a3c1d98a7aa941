"""Batches of uint8 images at the network's resolution, augmented and shuffled by seed and epoch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import numpy as np
import torch
from torch import Tensor

from tinytl.data.crops import Crop, random_crop
from tinytl.data.resizing import read_at_once, resize_boxes, resize_crops_
from tinytl.data.sending import SentBatch, Wanted, one_ahead, sent_batches
from tinytl.data.splits import ImageSet, Split
from tinytl.data.streaming import Index, stream_squares
from tinytl.device import is_on_cpu_path

CPU = torch.device("cpu")


def train_batches(
    data: Split,
    *,
    batch_size: int,
    resolution: int,
    crop_scale_min: float,
    flip: bool,
    sampling: str = "shuffled",
    seed: int,
    epoch: int,
    drop_single: bool,
    device: torch.device = CPU,
    share: Callable[[int], slice] = lambda n: slice(0, n),
    workers: int | None = None,
    resized_at_once: int | None = None,
    row_before: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields `(N, 3, R, R)` uint8 and `(N,)` int64 on `device` over one shuffled pass.

    With `sampling` of `balanced` it has as many images, but of each class alike. Order and crops depend only
    on seed, epoch and the batches' shape, so an epoch can be repeated after an interruption. The last batch
    may be smaller; `drop_single` leaves it out if it is one sample, which batch norm cannot normalise.
    `share` returns the rows that this process trains, from the number of samples in the batch; other rows are
    not decoded. With `row_before`, a share that is not empty is led by the row before it; before a batch's
    first row comes its last. Files are decoded by `workers` processes (`stream_squares`). A GPU resizes at
    most `resized_at_once` pictures at a time, and the next batch travels to it meanwhile
    (`tinytl.data.sending`).

    Raises:
        ConfigError: naming a file that does not decode.
    """
    order, rng = _order(data.labels, sampling, seed, epoch)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if drop_single and len(batches[-1]) == 1:
        batches.pop()
    rows = [_rows(len(batch), share, row_before) for batch in batches]
    shares = [batch[own] for batch, own in zip(batches, rows, strict=True)]

    def wanted() -> Iterator[Wanted]:
        for batch, own in zip(batches, rows, strict=True):
            crops = [random_crop(data.side, crop_scale_min, flip, rng) for _ in batch]
            yield Wanted([crops[row] for row in own], data.labels[batch[own]])

    yield from _batches(data, shares, wanted(), resolution, device, workers, resized_at_once)


def labels_in_order(data: Split, sampling: str, seed: int, epoch: int) -> Index:
    """Returns the labels `(N,)` of an epoch in the order of `train_batches` with this seed and epoch."""
    order, _ = _order(data.labels, sampling, seed, epoch)
    return data.labels[order]


def eval_batches(
    data: Split, *, batch_size: int, resolution: int, device: torch.device = CPU, workers: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the whole images, in order, resized to `(N, 3, R, R)` uint8, with labels `(N,)` int64."""
    whole = Crop(0, 0, data.side, data.side)
    order = np.arange(len(data))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    wanted = (Wanted([whole] * len(batch), data.labels[batch]) for batch in batches)
    yield from _batches(data, batches, wanted, resolution, device, workers, None)


def steps_per_epoch(n_samples: int, batch_size: int, drop_single: bool) -> int:
    """Returns how many batches `train_batches` yields."""
    full, rest = divmod(n_samples, batch_size)
    return full + (0 if rest == 0 or (drop_single and rest == 1) else 1)


def _batches(
    data: Split,
    order: Sequence[Index],
    wanted: Iterator[Wanted],
    resolution: int,
    device: torch.device,
    workers: int | None,
    resized_at_once: int | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the batches whose samples are `order`, as `wanted`."""
    pictures = _pictures(data, order, resolution, workers)
    if is_on_cpu_path(device):
        for crops, labels in wanted:
            yield _resized(pictures, crops, resolution), torch.from_numpy(labels)
        return
    most = max(map(len, order), default=0)

    def received(batch: SentBatch) -> tuple[Tensor, Tensor]:
        pictures, boxes, labels, _ = batch.arrived()
        return resize_boxes(pictures, boxes, resolution, resized_at_once or most), labels

    with closing(sent_batches(pictures, wanted, most=most, side=data.side, device=device)) as sent:
        yield from map(received, one_ahead(sent))  # unlike a loop, this keeps nothing that it has handed out


def _rows(n_samples: int, share: Callable[[int], slice], row_before: bool) -> Index:
    """Returns the rows of a batch of `n_samples` that this process needs."""
    own = np.arange(n_samples)[share(n_samples)]
    return np.concatenate([(own[:1] - 1) % n_samples, own]) if row_before else own


def _order(labels: Index, sampling: str, seed: int, epoch: int) -> tuple[Index, np.random.Generator]:
    """Returns the images of an epoch in order, and what their crops are drawn from."""
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(labels))
    return (order if sampling == "shuffled" else _balanced(labels, order, rng)), rng


def _balanced(labels: Index, order: Index, rng: np.random.Generator) -> Index:
    """Returns as many images as `order` has, of each class alike (one more of some, drawn), shuffled.

    A class's images come in the order of `order`, all of them before one comes again.
    """
    by_class = [order[labels[order] == label] for label in np.unique(labels)]
    wanted = np.full(len(by_class), len(order) // len(by_class))
    wanted[rng.permutation(len(by_class))[: len(order) % len(by_class)]] += 1
    drawn = [np.resize(images, n) for images, n in zip(by_class, wanted, strict=True)]
    return rng.permutation(np.concatenate(drawn))


def _pictures(
    data: Split, batches: Sequence[Index], resolution: int, workers: int | None
) -> Iterator[Tensor]:
    """Yields the pictures of all batches in order, `(n, S, S, 3)` uint8: a few at a time, of one batch."""
    at_once = read_at_once(data.side, resolution)
    parts = [batch[i : i + at_once] for batch in batches for i in range(0, len(batch), at_once)]
    if isinstance(data, ImageSet):
        return (torch.from_numpy(data.images[part]) for part in parts)
    return stream_squares(data, parts, workers)


def _resized(pictures: Iterator[Tensor], crops: Sequence[Crop], resolution: int) -> Tensor:
    """Takes as many pictures as there are crops and resizes them to `(N, 3, R, R)` on the CPU."""
    shape = (len(crops), 3, resolution, resolution)
    out = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)
    done = 0
    while done < len(crops):
        few = next(pictures)
        part = slice(done, done + len(few))
        resize_crops_(out[part], few, crops[part])
        done += len(few)
    return out
