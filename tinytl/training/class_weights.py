"""Weights of the classes in the loss, so that rare classes count for more."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinytl.config.train_config import TrainConfig

EFFECTIVE_BETA = 0.99
"""How much of an image's content others of its class already have: near 1, weights are those of `inverse`.

Source: Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019: 0.9 to 0.9999.
"""


def class_weights(labels: NDArray[np.int64], config: TrainConfig, device: torch.device) -> Tensor | None:
    """Returns `(C,)`, float32: by how much the loss of an image of each class is multiplied; None: by 1.

    `inverse`: 1 / n, for n images of the class. `effective`: (1 - b) / (1 - b^n) with b of 0.99: a class of
    10 images has 10 times the weight of one of 1,000, not 100 times. Both are scaled so that the mean over
    all training images is 1, and the learning rate keeps its meaning. Classes without images have 1.
    With `sampling` of `balanced` an epoch has as many images of each class, so all have 1.
    """
    if config.class_weighting == "none":
        return None
    assert config.num_classes is not None
    if config.sampling == "balanced":
        return unit_weights(config, device)
    n_images = np.bincount(labels, minlength=config.num_classes).astype(np.float64)
    there = n_images > 0
    raw = np.ones(config.num_classes)
    if config.class_weighting == "inverse":
        raw[there] = 1 / n_images[there]
    else:
        raw[there] = (1 - EFFECTIVE_BETA) / (1 - EFFECTIVE_BETA ** n_images[there])
    raw[there] *= len(labels) / float(raw[there] @ n_images[there])
    return torch.from_numpy(raw).to(device, torch.float32)


def unit_weights(config: TrainConfig, device: torch.device) -> Tensor | None:
    """Returns weights of 1 if `config` weights classes: for a step whose images do not matter."""
    if config.class_weighting == "none":
        return None
    return torch.ones(config.num_classes or 1, device=device)
