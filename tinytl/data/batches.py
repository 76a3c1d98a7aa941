"""Batches of uint8 images at the network's resolution, augmented and shuffled by seed and epoch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinytl.data.crops import Crop, random_crop
from tinytl.data.rand_augment import picture_seeds, rand_augmented
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
    rand_augment: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields `(N, 3, R, R)` uint8 and `(N,)` int64 on `device` over one shuffled pass.

    With `sampling` of `balanced` it has as many images, but of each class alike. Order and crops depend only
    on seed, epoch and the batches' shape, so an epoch can be repeated after an interruption. The last batch
    may be smaller; `drop_single` leaves it out if it is one sample, which batch norm cannot normalise.
    `share` returns the rows that this process trains, from the number of samples in the batch; other rows are
    not decoded. With `row_before`, a share that is not empty is led by the row before it; before a batch's
    first row comes its last. Files are decoded by `workers` processes (`stream_squares`). A GPU resizes at
    most `resized_at_once` pictures at a time, and the next batch travels to it meanwhile
    (`tinytl.data.sending`). Unless `rand_augment` is 0, pictures are changed with that magnitude before they
    are cropped (`tinytl.data.rand_augment`).

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

    seeds = None
    if rand_augment:
        of_epoch = picture_seeds(len(order), seed, epoch)
        seeds = [of_epoch[i * batch_size : (i + 1) * batch_size][own] for i, own in enumerate(rows)]
    pictures = _pictures(data, shares, resolution, workers, rand_augment, seeds)
    yield from _batches(data, pictures, shares, wanted(), resolution, device, resized_at_once)


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
    pictures = _pictures(data, batches, resolution, workers)
    yield from _batches(data, pictures, batches, wanted, resolution, device, None)


def steps_per_epoch(n_samples: int, batch_size: int, drop_single: bool) -> int:
    """Returns how many batches `train_batches` yields."""
    full, rest = divmod(n_samples, batch_size)
    return full + (0 if rest == 0 or (drop_single and rest == 1) else 1)


def _batches(
    data: Split,
    pictures: Iterator[Tensor],
    order: Sequence[Index],
    wanted: Iterator[Wanted],
    resolution: int,
    device: torch.device,
    resized_at_once: int | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the batches whose samples are `order`, and whose `pictures` come one after the other, as
    `wanted`.
    """
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
    data: Split,
    batches: Sequence[Index],
    resolution: int,
    workers: int | None,
    rand_augment: int = 0,
    seeds: Sequence[Index] | None = None,
) -> Iterator[Tensor]:
    """Yields the pictures of all batches in order, `(n, S, S, 3)` uint8: a few at a time, of one batch.

    With `seeds`, one per picture of each batch, they are changed by RandAugment of that magnitude.
    """
    at_once = read_at_once(data.side, resolution)
    parts = _in_parts(batches, at_once)
    change = None if seeds is None else _Augmented(rand_augment, _in_parts(seeds, at_once))
    if not isinstance(data, ImageSet):
        return stream_squares(data, parts, workers, change)
    stored = (data.images[part] for part in parts)
    changed = stored if change is None else (change(few, number) for number, few in enumerate(stored))
    return map(torch.from_numpy, changed)


def _in_parts(batches: Sequence[Index], at_once: int) -> list[Index]:
    return [batch[i : i + at_once] for batch in batches for i in range(0, len(batch), at_once)]


@dataclass(frozen=True)
class _Augmented:
    """Changes the pictures of a part, in whatever process has decoded them."""

    magnitude: int
    seeds: Sequence[Index]
    """Of each part, one per picture."""

    def __call__(self, pictures: npt.NDArray[np.uint8], number: int) -> npt.NDArray[np.uint8]:
        return rand_augmented(pictures, self.magnitude, self.seeds[number])


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
