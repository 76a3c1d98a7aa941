"""Labels of a study's validation images that are likely wrong, by what its trials said of them.

A trial's weights never saw these images, so the probabilities are held out, as confident learning asks.
Imports neither torch nor ray.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tinytl.data.named_pictures import NamedPictures
from tinytl.data_checks.findings import Finding
from tinytl.data_checks.label_errors import label_finding, label_suspects
from tinytl.errors import ConfigError
from tinytl.training.judgements import Judgements
from tuner.findings.sureness import judgements_in
from tuner.record.reading import StudyReading

MOST_TRIALS = 3
"""Of the complete trials, the best so many. Their mean finds more than the best one alone: of 24 flipped
labels among 477, the first 5 % of the list had 9 by one trial, 15 by three, 12 by all eight."""
MOST_PROBABILITIES = 20_000_000
"""Images times classes at most: each needs 20 bytes in memory for a moment."""


def best_judgements(study: StudyReading, most: int = MOST_TRIALS) -> list[Judgements]:
    """Returns what the best trials said of the validation images, of those that have a whole file of it."""
    found: list[Judgements] = []
    for trial in sorted(study.complete, key=lambda trial: -trial.score):
        judged = judgements_in(study.folder / trial.name)
        if judged is not None and (not found or np.array_equal(judged.labels, found[0].labels)):
            found.append(judged)
        if len(found) == most:
            break
    return found


def mean_probabilities(judged: Sequence[Judgements], n_classes: int) -> npt.NDArray[np.float32]:
    """Returns `(N, K)`: the mean probability of each class for each image.

    Of each image, a trial's file has the probability of the label and of the predicted class. What is left
    of 1 is spread evenly over the other classes: neither is as likely as the predicted one.
    """
    rows = np.arange(len(judged[0].labels))
    mean = np.zeros((len(rows), n_classes), np.float32)
    for one in judged:
        own, right = np.exp(-one.losses), one.predicted == one.labels
        named = np.where(right, one.confidence, one.confidence + own)
        others = n_classes - np.where(right, 1, 2)
        rest = np.maximum(1 - named, 0) / np.maximum(others, 1)
        mean += rest[:, None] / len(judged)
        mean[rows, one.predicted] += (one.confidence - rest) / len(judged)
        wrong = rows[~right]
        mean[wrong, one.labels[wrong]] += (own - rest)[wrong] / len(judged)
    return mean


def likely_label_errors(
    judged: Sequence[Judgements], pictures: NamedPictures, classes: tuple[str, ...]
) -> list[Finding]:
    """Returns a finding for each label that is likely wrong, the likeliest error first.

    Args:
        judged: what trials said of the pictures, one at least.
        pictures: of the validation split, in the order in which they were judged.
        classes: of the data set.

    Raises:
        ConfigError: for more images times classes than fit into memory.
    """
    labels = judged[0].labels
    if len(labels) * len(classes) > MOST_PROBABILITIES:
        raise ConfigError(
            f"{len(labels):,} images of {len(classes):,} classes are too many to look for label errors here: "
            f"at most {MOST_PROBABILITIES:,} probabilities fit into memory"
        )
    return [
        label_finding(suspect, classes, "val", pictures.file(suspect.row))
        for suspect in label_suspects(mean_probabilities(judged, len(classes)), labels)
    ]
