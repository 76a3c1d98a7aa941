"""Labels that are likely wrong, by confident learning.

How many: a class has a threshold, the mean probability that its own pictures get for it. A picture counts for
the likeliest class whose threshold it reaches. The counts by label and class, scaled to the labels' numbers,
say how many labels are wrong; thresholds make that robust to a model that is surer of some classes than of
others. Which: those for which another class is the most times as likely as the label.
Source: Northcutt, Jiang, Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 2021,
sections 3.1 and 3.2; the order is by likelihood ratio, which found more flipped labels than their margin
(docs/architecture.md).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tinytl.data_checks.findings import Finding

SMALLEST = 1e-12
"""A probability counts as this at least."""
FEWEST_PER_CLASS = 2
"""Of fewer pictures nothing is said: what judges the only picture of a class never saw the class."""

Probabilities = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]
Joint = npt.NDArray[np.float64]


class Suspect(NamedTuple):
    """A label that is likely wrong."""

    row: int
    """Of the picture, in the arrays that were given."""
    given: int
    """Its label."""
    likely: int
    """The class that it looks like."""
    ratio: float
    """How many times as likely that class is."""


def label_finding(suspect: Suspect, classes: tuple[str, ...], split: str, file: str) -> Finding:
    """Returns the finding for a picture whose label is likely wrong."""
    given, likely = classes[suspect.given], classes[suspect.likely]
    return Finding(
        kind="label",
        split=split,
        label=given,
        file=file,
        compared_with=likely,
        number=suspect.ratio,
        reason=f"it looks like {likely}, {_times(suspect.ratio)} as likely as {given}",
    )


def label_suspects(probabilities: Probabilities, labels: Labels) -> list[Suspect]:
    """Returns as many labels as are likely wrong, the likeliest error first.

    Classes of fewer than `FEWEST_PER_CLASS` pictures are left out, as labels and as what others look like.

    Args:
        probabilities: `(N, K)`, of each class for each picture, from a model that was not trained on that
            picture: out-of-fold, or of held-out pictures. Rows sum to 1.
        labels: `(N,)`, numbers of classes, 0 to K - 1.

    Raises:
        ValueError: for shapes that do not fit, or labels out of range.
    """
    _check_shapes(probabilities, labels)
    rows = np.arange(len(labels))
    others = probabilities.astype(np.float64)
    own = np.maximum(others[rows, labels], SMALLEST)
    few = np.bincount(labels, minlength=probabilities.shape[1]) < FEWEST_PER_CLASS
    others[:, few] = others[rows, labels] = -1.0
    likely = others.argmax(axis=1)
    ratios = others[rows, likely] / own
    ratios[few[labels]] = 0.0
    judged = ~few[labels]
    joint = confident_joint(probabilities[judged], labels[judged])
    n_wrong = round(joint.sum() - np.trace(joint))
    order = np.argsort(-ratios, kind="stable")[:n_wrong]
    return [Suspect(int(i), int(labels[i]), int(likely[i]), float(ratios[i])) for i in order if ratios[i] > 1]


def confident_joint(probabilities: Probabilities, labels: Labels) -> Joint:
    """Returns `(K, K)`: how many pictures of each label (row) are of each class (column), estimated.

    Rows sum to the labels' numbers. A label none of whose pictures counts for a class is taken to be right.
    """
    n_classes = probabilities.shape[1]
    confident = np.where(probabilities >= class_thresholds(probabilities, labels), probabilities, -1.0)
    counted = confident.max(axis=1) >= 0
    counts = np.zeros((n_classes, n_classes))
    np.add.at(counts, (labels[counted], confident.argmax(axis=1)[counted]), 1)
    nothing = counts.sum(axis=1) == 0
    counts[nothing, nothing] = 1
    sizes = np.bincount(labels, minlength=n_classes)
    return counts * (sizes / counts.sum(axis=1))[:, None]


def class_thresholds(probabilities: Probabilities, labels: Labels) -> npt.NDArray[np.float64]:
    """Returns `(K,)`: the mean probability of each class for the pictures that have its label.

    A class that no picture has gets infinity: none can count for it.
    """
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    own = probabilities[np.arange(len(labels)), labels]
    sums = np.bincount(labels, weights=own, minlength=probabilities.shape[1])
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def _check_shapes(probabilities: Probabilities, labels: Labels) -> None:
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise ValueError(f"probabilities {probabilities.shape} do not fit labels {labels.shape}")
    n_classes = probabilities.shape[1]
    if len(labels) and not 0 <= labels.min() <= labels.max() < n_classes:
        raise ValueError(f"labels from {labels.min()} to {labels.max()} do not fit {n_classes} classes")


def _times(ratio: float) -> str:
    return f"{ratio:.1f} times" if ratio < 10 else f"{ratio:.0f} times" if ratio < 1000 else "over 999 times"
