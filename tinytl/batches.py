"""Batches of uint8 images at the network's resolution, augmented and shuffled by seed and epoch."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from tinytl.data import ImageSet

ASPECT_RATIO_MAX = 4 / 3
"""Training crops are between 3:4 and 4:3. Source: Inception, as in torchvision's RandomResizedCrop."""


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
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields `(N, 3, R, R)` uint8 and `(N,)` int64 over one shuffled pass; the last batch may be smaller.

    Depends on nothing but the arguments, so that an epoch can be repeated after an interruption.
    `drop_single` leaves out a last batch of one sample, which batch norm cannot normalise.
    """
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(data))
    for start in range(0, len(order), batch_size):
        index = order[start : start + batch_size]
        if drop_single and len(index) == 1:
            return
        images = [_random_crop(data, i, resolution, crop_scale_min, flip, rng) for i in index]
        yield _stack(images), torch.from_numpy(data.labels[index])


def eval_batches(data: ImageSet, *, batch_size: int, resolution: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the whole images, in order, resized to `(N, 3, R, R)` uint8, with labels `(N,)` int64."""
    for start in range(0, len(data), batch_size):
        rows = slice(start, start + batch_size)
        images = [_resize(_tensor(data, i), resolution) for i in range(len(data))[rows]]
        yield _stack(images), torch.from_numpy(data.labels[rows].copy())


def steps_per_epoch(n_samples: int, batch_size: int, drop_single: bool) -> int:
    """Returns how many batches `train_batches` yields."""
    full, rest = divmod(n_samples, batch_size)
    return full + (0 if rest == 0 or (drop_single and rest == 1) else 1)


def _tensor(data: ImageSet, index: int) -> Tensor:
    # A copy: arrays that Ray shares between processes are read-only, which torch tensors cannot say.
    return torch.from_numpy(data.images[index].copy()).permute(2, 0, 1)


def _stack(images: list[Tensor]) -> Tensor:
    return torch.stack(images).contiguous(memory_format=torch.channels_last)


def _resize(image: Tensor, resolution: int) -> Tensor:
    if image.shape[-2:] == (resolution, resolution):
        return image
    resized: Tensor = transforms.resize(image, [resolution, resolution], antialias=True)
    return resized


def _random_crop(
    data: ImageSet, index: int, resolution: int, scale_min: float, flip: bool, rng: np.random.Generator
) -> Tensor:
    image = _tensor(data, int(index))
    side = image.shape[-1]
    area = rng.uniform(scale_min, 1.0)
    aspect = math.exp(rng.uniform(-math.log(ASPECT_RATIO_MAX), math.log(ASPECT_RATIO_MAX)))
    height = min(side, max(1, round(side * math.sqrt(area / aspect))))
    width = min(side, max(1, round(side * math.sqrt(area * aspect))))
    top, left = int(rng.integers(0, side - height + 1)), int(rng.integers(0, side - width + 1))
    crop = _resize(image[:, top : top + height, left : left + width], resolution)
    return crop.flip(-1) if flip and rng.random() < 0.5 else crop
