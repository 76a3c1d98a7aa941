"""Mixup and CutMix: each picture of a batch is mixed with the one before it, and its label alike.

A whole batch is mixed before it is cut into micro-batches, and a process that has a share of it also has the
picture before that: so the gradient does not depend on how the step is executed. How a batch is mixed depends
on seed, epoch and step alone, so that an epoch can be repeated. Pictures stay uint8, rounded to the nearest.

The formulas are those of torchvision.transforms.v2, which this package does not need for them. Batches are
shuffled, so the picture before is any picture.

Source: Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018; Yun et al., CutMix, ICCV 2019.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tinytl.config.train_config import TrainConfig

_DRAWS = 1
"""Makes a mixture's random numbers others than those of an epoch's order, which begin with the same seed."""


@dataclass(frozen=True)
class Mixture:
    """How the pictures of one batch are mixed."""

    share: float
    """Share of a picture's own label, in [0, 1]; the label of the picture before it has the rest."""
    box: tuple[int, int, int, int] | None = None
    """Top, left, bottom and right of what comes from the picture before, in pixels; None: all pixels are sums
    of both, by `share`."""


def drawn_mixture(config: TrainConfig, epoch: int, step: int) -> Mixture:
    """Returns how a batch of a run that mixes is mixed; epoch and step are counted from 0.

    If both kinds are asked for, each batch has one of them, with equal probability.
    """
    rng = np.random.default_rng((config.order_seed, epoch, step, _DRAWS))
    both = config.mixup_alpha > 0 and config.cutmix_alpha > 0
    cuts = rng.random() < 0.5 if both else config.cutmix_alpha > 0
    alpha = config.cutmix_alpha if cuts else config.mixup_alpha
    share = float(rng.beta(alpha, alpha))
    if not cuts:
        return Mixture(share)
    row, column = rng.integers(config.resolution, size=2)
    return cut_at(int(row), int(column), share, config.resolution)


def cut_at(row: int, column: int, share: float, side: int) -> Mixture:
    """Returns the mixture whose box covers 1 - `share` of a square of `side` pixels, around a pixel of it.

    What lies outside the picture is cut off; then `share` is larger by that.
    """
    half = int(0.5 * math.sqrt(1.0 - share) * side)
    top, bottom = max(0, row - half), min(side, row + half)
    left, right = max(0, column - half), min(side, column + half)
    return Mixture(1.0 - (bottom - top) * (right - left) / side**2, (top, left, bottom, right))


def mixed_batches(
    batches: Iterator[tuple[Tensor, Tensor]],
    config: TrainConfig,
    epoch: int,
    *,
    at_once: int,
    starts_before: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields each batch of an epoch mixed: pictures `(N, 3, R, R)` uint8 in place, labels `(N, C)` float32.

    Args:
        batches: pictures, and labels `(N,)` int64, from the epoch's first step on.
        config: with `num_classes` set.
        epoch: counted from 0.
        at_once: pictures that are floats at a time, between two steps.
        starts_before: whether each batch is a share, led by the picture before its first one.
    """
    step = 0
    for images, labels in batches:  # `enumerate` would keep the last batch
        mixture = drawn_mixture(config, epoch, step)
        before, images = (images[:1], images[1:].clone()) if starts_before else (images[-1:].clone(), images)
        mix_pictures_(images, before, mixture, at_once)
        labels = mixed_labels(labels, mixture, config.num_classes or 1, starts_before)
        del before
        yield images, labels
        del images, labels
        step += 1


def mix_pictures_(images: Tensor, before: Tensor, mixture: Mixture, at_once: int) -> None:
    """Mixes each picture with the one before it, in place.

    Args:
        images: `(N, 3, R, R)` uint8.
        before: `(1, 3, R, R)`, the picture before the first, in other memory.
        mixture: how.
        at_once: pictures that are floats at a time.
    """
    for stop in range(len(images), 0, -at_once):  # the last first: each still finds the one before it
        start = max(0, stop - at_once)
        others = images[start - 1 : stop - 1] if start else torch.cat([before, images[: stop - 1]])
        _mix_few_(images[start:stop], others, mixture)


def _mix_few_(images: Tensor, others: Tensor, mixture: Mixture) -> None:
    if mixture.box is not None:
        top, left, bottom, right = mixture.box
        # `others` may overlap `images`, whose pictures it has one place further.
        images[..., top:bottom, left:right] = others[..., top:bottom, left:right].clone()
        return
    # Two products and a sum, each rounded: a fused one would round otherwise where vectors end.
    mixed = others.float().mul_(1.0 - mixture.share).add_(images.float().mul_(mixture.share))
    images.copy_(mixed.round_())


def mixed_labels(labels: Tensor, mixture: Mixture, num_classes: int, starts_before: bool = False) -> Tensor:
    """Returns the share of each class in each picture, `(N, C)` float32.

    Args:
        labels: `(N,)` int64; `(N + 1,)` if `starts_before`, the first of which belongs to the picture before.
        mixture: how the pictures are mixed.
        num_classes: C.
        starts_before: as in `mixed_batches`.
    """
    own, others = (labels[1:], labels[:-1]) if starts_before else (labels, labels.roll(1))
    classes = torch.arange(num_classes, device=labels.device)
    shares = (own[:, None] == classes).float().mul_(mixture.share)
    return shares.add_((others[:, None] == classes).float().mul_(1.0 - mixture.share))


def as_mixed(labels: Tensor, config: TrainConfig, epoch: int, step: int) -> Tensor:
    """Returns the labels that `mixed_batches` would make of `(N,)` int64, without its pictures."""
    return mixed_labels(labels, drawn_mixture(config, epoch, step), config.num_classes or 1)


def first_class(config: TrainConfig, n: int, device: torch.device) -> Tensor:
    """Returns labels of the first class for `n` pictures, as a step of `config` takes them: `(n,)` int64, or
    `(n, C)` float32 if it mixes pictures.
    """
    if not config.mixes_pictures:
        return torch.zeros(n, dtype=torch.int64, device=device)
    shares = torch.zeros(n, config.num_classes or 1, device=device)
    shares[:, 0] = 1.0
    return shares
