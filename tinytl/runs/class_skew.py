"""Says what the numbers of images of a data set's classes forbid, and what they make unsure."""

import numpy as np

from tinytl.config.train_config import TrainConfig
from tinytl.data.load import DataSplits
from tinytl.errors import ConfigError
from tinytl.plural import counted

MOST_NAMED = 6
"""Classes that a line names."""
SKEWED_FROM = 3.0
"""Ratio of the largest class to the smallest from which a data set is called skewed."""


def skew_line(data: DataSplits, config: TrainConfig, metric: str = "metric=macro_f1") -> str | None:
    """Returns the line for a skewed data set; None for any other, or if the classes are weighted already.

    `metric`: how a user asks for a figure that counts each class alike.
    """
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
        f"{data.classes[least]} has {n_images[least]}: {metric} counts them alike; "
        "class_weighting=effective or sampling=balanced may help the rare ones"
    )


def unjudged_line(data: DataSplits, metric: str) -> str | None:
    """Returns a line that names the classes without validation images; None if each has some.

    `metric`: the one by which epochs or trials are compared.
    """
    n_train = np.bincount(data.train.labels, minlength=len(data.classes))
    n_val = np.bincount(data.val.labels, minlength=len(data.classes))
    missing = np.flatnonzero(n_val == 0)
    if not len(missing) or not len(data.val):
        return None
    named = ", ".join(f"{data.classes[turn]} ({n_train[turn]})" for turn in missing[:MOST_NAMED])
    rest = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
    seen = counted(len(data.classes) - len(missing), "class", "classes")
    means = {
        "accuracy_top1": "nothing says how well they are told apart",
        **dict.fromkeys(
            ("balanced_accuracy", "macro_f1"), f"metric={metric} is the mean over the other {seen}"
        ),
    }
    return (
        f"no validation image of {counted(len(missing), 'class', 'classes')} (with training images): {named}"
        f"{rest}: {means[metric]}; --min-per-class N leaves out classes with fewer than N pictures"
    )


def check_metric(data: DataSplits, metric: str) -> None:
    """Raises ConfigError if `metric` says nothing of these validation images: all are of one class."""
    seen = np.unique(data.val.labels)
    if metric != "accuracy_top1" and len(seen) == 1:
        raise ConfigError(
            f"metric={metric}: all {len(data.val)} validation images are of one class "
            f"({data.classes[seen[0]]}), so it says nothing: use accuracy_top1, or validate on more classes"
        )
