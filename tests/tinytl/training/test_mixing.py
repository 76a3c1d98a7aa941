import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from tests.support.cases import small
from tinytl.config.train_config import TrainConfig
from tinytl.training.mixing import (
    Mixture,
    as_mixed,
    cut_at,
    drawn_mixture,
    first_class,
    mix_pictures_,
    mixed_batches,
    mixed_labels,
)

N, SIDE, CLASSES = 6, 32, 3
MIXTURES = {
    "mixup": Mixture(0.3),
    "CutMix": Mixture(0.75, (4, 8, 20, 24)),
    "no box": Mixture(1.0, (5, 5, 5, 5)),
    "all of the other": Mixture(0.0),
}
LABELS = torch.tensor([0, 1, 2, 2, 0, 1])


def _images(n: int = N) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    images = torch.randint(0, 256, (n, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    return images.contiguous(memory_format=torch.channels_last)


def _mixed(mixture: Mixture, at_once: int = N) -> Tensor:
    images = _images()
    mix_pictures_(images, images[-1:].clone(), mixture, at_once)
    return images


def _of_torchvision(mixture: Mixture) -> tuple[Tensor, Tensor]:
    """Pictures as floats, and labels, as torchvision's transforms mix them by the same share or box."""
    if mixture.box is None:
        transform: Any = v2.MixUp(num_classes=CLASSES)
        how: dict[str, Any] = {"lam": mixture.share}
    else:
        top, left, bottom, right = mixture.box
        transform = v2.CutMix(num_classes=CLASSES)
        how = {"box": (left, top, right, bottom), "lam_adjusted": mixture.share}
    transform.make_params = lambda _: how
    images, labels = transform(_images().float(), LABELS)
    return images, labels


@pytest.mark.parametrize("mixture", MIXTURES.values(), ids=MIXTURES)
def test_pictures_and_labels_are_mixed_as_torchvision_mixes_them(mixture: Mixture) -> None:
    images, labels = _of_torchvision(mixture)
    # In 32 bits torchvision's sum rounds otherwise: halves may go either way.
    assert (_mixed(mixture).float() - images).abs().max() <= 0.5 + 1e-4
    torch.testing.assert_close(mixed_labels(LABELS, mixture, CLASSES), labels)
    if mixture.box is not None:
        assert torch.equal(_mixed(mixture).float(), images)


@pytest.mark.parametrize("mixture", MIXTURES.values(), ids=MIXTURES)
@pytest.mark.parametrize("at_once", [1, 4, 100])
def test_pictures_at_a_time_change_nothing(mixture: Mixture, at_once: int) -> None:
    assert torch.equal(_mixed(mixture, at_once), _mixed(mixture))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9999, 1.0])
@pytest.mark.parametrize(("row", "column"), [(0, 31), (16, 7), (31, 31)])
def test_a_box_is_where_torchvision_cuts(
    share: float, row: int, column: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    transform = v2.CutMix(num_classes=CLASSES)
    drawn = iter([torch.tensor([column]), torch.tensor([row])])
    monkeypatch.setattr(transform._dist, "sample", lambda _: torch.tensor(share, dtype=torch.float64))
    images = _images()
    with monkeypatch.context() as patched:
        patched.setattr(torch, "randint", lambda *_, **__: next(drawn))
        how = transform.make_params([images])
    mixture = cut_at(row, column, share, SIDE)
    left, top, right, bottom = how["box"]
    assert mixture == Mixture(how["lam_adjusted"], (top, left, bottom, right))


def _config(**changes: Any) -> TrainConfig:
    return small(**{"batch_size": 6, "num_classes": CLASSES} | changes)


def test_a_mixture_is_that_of_seed_epoch_and_step() -> None:
    config = _config(mixup_alpha=0.4)
    shares = {
        drawn_mixture(_config(mixup_alpha=0.4, seed=seed), epoch, step).share
        for seed, epoch, step in itertools.product(range(2), range(2), range(2))
    }
    assert len(shares) == 8
    assert drawn_mixture(_config(mixup_alpha=0.4, seed=7, data_seed=0), 1, 1) == drawn_mixture(config, 1, 1)
    before = torch.get_rng_state()
    drawn_mixture(config, 0, 0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_of_a_beta_distribution(alpha: float) -> None:
    shares = np.array([drawn_mixture(_config(mixup_alpha=alpha), 0, step).share for step in range(2000)])
    assert shares.mean() == pytest.approx(0.5, abs=0.04)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_each_batch_has_one_of_both_kinds() -> None:
    mixtures = [drawn_mixture(_config(mixup_alpha=0.2, cutmix_alpha=1.0), 0, step) for step in range(400)]
    cut = sum(mixture.box is not None for mixture in mixtures)
    assert 150 < cut < 250
    alone = [drawn_mixture(_config(cutmix_alpha=1.0), 0, step) for step in range(20)]
    assert all(mixture.box is not None for mixture in alone)
    assert all(drawn_mixture(_config(mixup_alpha=1.0), 0, step).box is None for step in range(20))


SETTINGS = {"mixup": {"mixup_alpha": 1.0}, "CutMix": {"cutmix_alpha": 1.0}}


def _batches(*sizes: int) -> Iterator[tuple[Tensor, Tensor]]:
    for turn, n in enumerate(sizes):
        yield _images(n), (torch.arange(n) + turn) % CLASSES


@pytest.mark.parametrize("fields", SETTINGS.values(), ids=SETTINGS)
def test_shares_of_a_batch_are_mixed_as_the_whole(fields: dict[str, Any]) -> None:
    config, sizes = _config(**fields), (6, 5, 1)
    whole = list(mixed_batches(_batches(*sizes), config, 3, at_once=2))
    for first, stop in ((0, 3), (2, 5), (5, 9)):
        rows = [np.arange(n)[first:stop] for n in sizes]
        led = [np.concatenate([(own[:1] - 1) % n, own]) for own, n in zip(rows, sizes, strict=True)]
        shares = ((images[i], labels[i]) for (images, labels), i in zip(_batches(*sizes), led, strict=True))
        found = mixed_batches(shares, config, 3, at_once=2, starts_before=True)
        for (images, labels), own, (all_images, all_labels) in zip(found, rows, whole, strict=True):
            assert torch.equal(images, all_images[own]) and torch.equal(labels, all_labels[own])
            assert images.untyped_storage().nbytes() == images.nbytes  # nothing of its neighbour stays


def test_labels_without_pictures_are_those_with_them() -> None:
    config = _config(cutmix_alpha=1.0)
    for step, (_, labels) in enumerate(mixed_batches(_batches(6, 4), config, 2, at_once=1)):
        plain = (torch.arange(len(labels)) + step) % CLASSES
        assert torch.equal(as_mixed(plain, config, 2, step), labels)
        assert labels.sum(1).tolist() == pytest.approx([1.0] * len(labels))


def test_a_picture_alone_stays_as_it_is() -> None:
    ((images, labels),) = mixed_batches(_batches(1), _config(mixup_alpha=1.0), 0, at_once=1)
    assert torch.equal(images, _images(1)) and labels.tolist() == [pytest.approx([1.0, 0.0, 0.0])]


def test_labels_are_as_a_step_takes_them() -> None:
    cpu = torch.device("cpu")
    assert first_class(_config(), 2, cpu).tolist() == [0, 0]
    assert first_class(_config(cutmix_alpha=1.0), 2, cpu).tolist() == [[1.0, 0.0, 0.0]] * 2
