"""Which judgements a person should look at: the surest mistakes, the least certain, the confused classes."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinytl.training.judgements import Judgements

MOST_SHOWN = 24
"""Pictures of a gallery, if nothing else is asked for."""
MOST_IN_MATRIX = 40
"""Classes up to which a confusion matrix has all of them; of more, it has the most confused ones."""


class ConfusedPair(NamedTuple):
    """How often images of one class are taken for another."""

    n_taken: int
    truth: int
    predicted: int
    n_images: int
    """Of the true class."""


class Judged(NamedTuple):
    """What was said of one picture."""

    row: int
    """Of the picture in its split."""
    file: str
    label: str
    predicted: str
    confidence: float
    """The probability of the predicted class."""
    label_probability: float
    """That of the label."""


def worst_mistakes(found: Judgements, most: int = MOST_SHOWN) -> NDArray[np.int64]:
    """Returns the rows of the wrong images of which the network was the surest, at most `most`."""
    wrong = np.flatnonzero(found.predicted != found.labels)
    return wrong[np.argsort(-found.confidence[wrong], kind="stable")][:most]


def least_certain(found: Judgements, most: int = MOST_SHOWN) -> NDArray[np.int64]:
    """Returns the rows of the images, right or wrong, of which the network was the least sure."""
    return np.argsort(found.confidence, kind="stable")[:most]


def confused_pairs(counts: NDArray[np.int64]) -> list[ConfusedPair]:
    """Returns each pair of classes that is ever confused, the most frequent first.

    `counts`: `(C, C)`, a row for each true class.
    """
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    n_images = counts.sum(1)
    pairs = [
        ConfusedPair(int(wrong[i, j]), int(i), int(j), int(n_images[i]))
        for i, j in zip(*wrong.nonzero(), strict=True)
    ]
    return sorted(pairs, key=lambda pair: (-pair.n_taken, pair.truth, pair.predicted))


def matrix_classes(counts: NDArray[np.int64], most: int = MOST_IN_MATRIX) -> list[int]:
    """Returns the classes that a confusion matrix can show, in order.

    All, or the first of the most confused pairs that have at most `most` classes; without any mistake, the
    first classes.
    """
    if len(counts) <= most:
        return list(range(len(counts)))
    chosen: set[int] = set()
    for pair in confused_pairs(counts):
        both = chosen | {pair.truth, pair.predicted}
        if len(both) > most:
            break
        chosen = both
    return sorted(chosen) or list(range(most))


def judged_picture(found: Judgements, row: int, file: str, classes: tuple[str, ...]) -> Judged:
    """Returns what was said of the picture of a row, which is called `file`."""
    return Judged(
        row,
        file,
        classes[found.labels[row]],
        classes[found.predicted[row]],
        float(found.confidence[row]),
        float(np.exp(-np.float64(found.losses[row]))),
    )
