"""Batches of uint8 images at the network's resolution, augmented and shuffled by seed and epoch."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinytl.crops import Crop, random_crop
from tinytl.data import ImageSet
from tinytl.resizing import pictures_at_once, resize_crops_

CPU = torch.device("cpu")


def train_batches(
    data: ImageSet,
    *,
    batch_size: int,
    resolution: int,
    crop_scale_min: float,
    flip: bool,
    seed: int,
    epoch: int,
    drop_single: bool,
    device: torch.device = CPU,
    rows: slice | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields `(N, 3, R, R)` uint8 and `(N,)` int64 on `device` over one shuffled pass.

    Order and crops depend on nothing but the arguments, so that an epoch can be repeated after an
    interruption. The last batch may be smaller; `drop_single` leaves it out if it is one sample, which batch
    norm cannot normalise. `rows` takes these rows of each batch alone, as the whole batch would have them: a
    process's share where several train on one batch.
    """
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(data))
    for start in range(0, len(order), batch_size):
        index = order[start : start + batch_size]
        if drop_single and len(index) == 1:
            return
        crops = [random_crop(data.side, crop_scale_min, flip, rng) for _ in index]
        if rows is not None:
            index, crops = index[rows], crops[rows]
        yield _batch(data, index, crops, resolution, device)


def eval_batches(
    data: ImageSet, *, batch_size: int, resolution: int, device: torch.device = CPU
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the whole images, in order, resized to `(N, 3, R, R)` uint8, with labels `(N,)` int64."""
    whole = Crop(0, 0, data.side, data.side)
    for start in range(0, len(data), batch_size):
        index = np.arange(len(data))[start : start + batch_size]
        yield _batch(data, index, [whole] * len(index), resolution, device)


def steps_per_epoch(n_samples: int, batch_size: int, drop_single: bool) -> int:
    """Returns how many batches `train_batches` yields."""
    full, rest = divmod(n_samples, batch_size)
    return full + (0 if rest == 0 or (drop_single and rest == 1) else 1)


def _batch(
    data: ImageSet, index: npt.NDArray[np.int64], crops: list[Crop], resolution: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    images = torch.empty(
        (len(index), 3, resolution, resolution),
        dtype=torch.uint8, device=device, memory_format=torch.channels_last,
    )  # fmt: skip
    at_once = pictures_at_once(data.side, resolution)
    for first in range(0, len(index), at_once):
        part = slice(first, first + at_once)
        pictures = torch.from_numpy(data.images[index[part]]).to(device)
        resize_crops_(images[part], pictures, crops[part])
    return images, torch.from_numpy(data.labels[index]).to(device)
