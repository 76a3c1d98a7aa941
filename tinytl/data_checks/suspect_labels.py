"""Likely label errors of a data set: frozen features, heads by cross-validation, confident learning."""

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinytl.build import build_model
from tinytl.config.train_config import TrainConfig
from tinytl.data.sets.listing import stored_side
from tinytl.data.splits import ImageFiles
from tinytl.data_checks.checked_set import CheckedSet
from tinytl.data_checks.findings import Finding
from tinytl.data_checks.label_errors import label_finding, label_suspects
from tinytl.data_checks.out_of_fold import out_of_fold_probabilities
from tinytl.device import resolve_device
from tinytl.features.compute import features_before_head
from tinytl.training.step import InputNormalizer

LEAST_RESOLUTION = 128
"""Input in pixels, at least: features of the larger input tell more classes apart, and a pass without
training costs little."""
BATCH_SIZE = 32


def find_suspect_labels(
    pictures: CheckedSet,
    whole: npt.NDArray[np.int64],
    config: TrainConfig,
    advance: Callable[[int], None] = lambda count: None,
) -> list[Finding]:
    """Returns a finding for each label that is likely wrong, the likeliest error first.

    `whole`: the rows that decode. `config`: backbone, weights, device. A picture needs 2.5 KB in memory.

    Raises:
        ConfigError: for weights that cannot be read.
    """
    if not len(whole):
        return []
    features, labels = frozen_features(pictures, whole, config, advance)
    probabilities = out_of_fold_probabilities(features, labels, len(pictures.classes))
    return [
        label_finding(
            suspect,
            pictures.classes,
            pictures.split(int(whole[suspect.row])),
            pictures.file(int(whole[suspect.row])),
        )
        for suspect in label_suspects(probabilities, labels.numpy())
    ]


def frozen_features(
    pictures: CheckedSet,
    whole: npt.NDArray[np.int64],
    config: TrainConfig,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[Tensor, Tensor]:
    """Returns features `(N, C)` in half precision of the rows `whole`, and labels `(N,)`, on the CPU.

    The network is that of `config` as it comes: nothing trains.
    """
    resolution = max(LEAST_RESOLUTION, config.resolution)
    config = dataclasses.replace(
        config, method="FT-Last", norm="frozen_bn", num_classes=len(pictures.classes), resolution=resolution
    )
    device = resolve_device(config.device)
    built = build_model(config)
    net = built.net.to(device).eval()
    known = built.normalization
    normalize = InputNormalizer(
        dataclasses.replace(config, input_mean=known.mean, input_std=known.std), device
    )
    features, labels = [], []
    for name, part in pictures.parts.items():
        rows = pictures.rows_of(name)
        inside = whole[(whole >= rows.start) & (whole < rows.stop)] - rows.start
        if not len(inside):
            continue
        images = part.take(inside)
        if isinstance(images, ImageFiles):
            images = dataclasses.replace(images, side=stored_side(resolution))
        found, of_part = features_before_head(
            net,
            normalize,
            images,
            resolution=resolution,
            batch_size=BATCH_SIZE,
            device=device,
            dtype=torch.float16,
            advance=advance,
        )
        features.append(found.cpu())
        labels.append(of_part.cpu())
    return torch.cat(features), torch.cat(labels)
