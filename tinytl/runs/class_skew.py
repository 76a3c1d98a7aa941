"""Says when the training images of some classes are many times those of others, and what helps."""

import numpy as np

from tinytl.config.train_config import TrainConfig
from tinytl.data.load import DataSplits

SKEWED_FROM = 3.0
"""Ratio of the largest class to the smallest from which a data set is called skewed."""


def skew_line(data: DataSplits, config: TrainConfig) -> str | None:
    """Returns the line for a skewed data set; None for any other, or if the classes are weighted already."""
    n_images = np.bincount(data.train.labels, minlength=len(data.classes))
    most, least = int(n_images.argmax()), int(n_images.argmin())
    if config.class_weighting != "none" or config.sampling != "shuffled":
        return None
    if n_images[most] < SKEWED_FROM * max(n_images[least], 1):
        return None
    share = n_images[most] / n_images.sum()
    return (
        f"skewed: {data.classes[most]} has {n_images[most]} of {n_images.sum()} training images "
        f"({share:.0%}), "
        f"{data.classes[least]} has {n_images[least]}: compare macro_f1 and balanced_accuracy; "
        "class_weighting=effective or sampling=balanced may help"
    )
