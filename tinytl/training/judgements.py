"""What a network says of labelled images, and the figures that follow from it.

Figures are those of scikit-learn (tests compare them), computed from a table of counts: its import, or that
of torchmetrics, would add 140 or 256 MiB to every process that trains.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinytl.config.names import METRICS

CALIBRATION_BINS = 15
"""Bins of equal width in (0, 1]. Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017."""


class OfClass(NamedTuple):
    """Figures of one class; fractions. None: undefined, as nothing was predicted, or no image is of it."""

    name: str
    n_images: int
    precision: float | None
    recall: float | None
    f1: float | None


class Bin(NamedTuple):
    """Images whose confidence lies in one bin: how many, their mean confidence, and their accuracy."""

    n_images: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Judgements:
    """What a network said of each of N images, in the order of their split."""

    labels: NDArray[np.int64]
    """`(N,)`."""
    predicted: NDArray[np.int64]
    """`(N,)`: the class with the largest logit."""
    confidence: NDArray[np.float32]
    """`(N,)`: the probability of `predicted`, in (0, 1]."""
    losses: NDArray[np.float32]
    """`(N,)`: cross entropy; not weighted, not smoothed."""

    @property
    def accuracy_top1(self) -> float:
        """The share of images whose predicted class is right."""
        return float(np.mean(self.predicted == self.labels))

    @property
    def loss(self) -> float:
        """The mean cross entropy."""
        return float(np.mean(self.losses, dtype=np.float64))

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that have images: each counts alike, however many it has."""
        n_images = self._counts.sum(1)
        return float(np.mean(np.diag(self._counts)[n_images > 0] / n_images[n_images > 0]))

    @property
    def macro_f1(self) -> float:
        """The mean F1 of the classes that have images. F1 is 2 TP / (2 TP + FP + FN)."""
        n_images, n_predicted = self._counts.sum(1), self._counts.sum(0)
        there = n_images > 0
        return float(np.mean(2 * np.diag(self._counts)[there] / (n_images + n_predicted)[there]))

    def influence(self, metric: str) -> NDArray[np.float64]:
        """Returns `(N,)`: by how much each image moves a metric, to first order; the sum is 0.

        A metric is a function of counts over images; this is its gradient at each image's own counts. Of two
        networks that judged the same images, the difference of their influences is that of their difference.
        Source: Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982 (the infinitesimal
        jackknife).

        Args:
            metric: `accuracy_top1`, `balanced_accuracy` or `macro_f1`.
        """
        labels, predicted, right = self.labels, self.predicted, self.predicted == self.labels
        n_images, n_predicted = self._counts.sum(1), self._counts.sum(0)
        if metric == "accuracy_top1":
            return (right - self.accuracy_top1) / len(labels)
        n_classes = np.count_nonzero(n_images)
        if metric == "balanced_accuracy":
            recall = np.diag(self._counts) / np.maximum(n_images, 1)
            moved: NDArray[np.float64] = (right - recall[labels]) / n_images[labels]
            return moved / n_classes
        both = np.maximum(n_images + n_predicted, 1)
        f1 = np.where(n_images > 0, 2 * np.diag(self._counts) / both, 0.0)
        moved = 2 * right / both[labels] - f1[labels] / both[labels] - f1[predicted] / both[predicted]
        return moved / n_classes

    def standard_error(self, metric: str) -> float:
        """Returns how far other images of the same kind would move a metric: a standard error, a fraction.

        Of top-1 accuracy it is the square root of p (1 - p) / N. Another seed is not in it.
        """
        return float(np.sqrt(np.sum(self.influence(metric) ** 2)))

    def figures(self) -> dict[str, float]:
        """Returns each of `METRICS`, then the standard error of each, as fractions."""
        errors = {f"{name}_standard_error": self.standard_error(name) for name in METRICS}
        return {name: getattr(self, name) for name in METRICS} | errors

    @property
    def calibration_error(self) -> float:
        """The expected calibration error: by how much confidence misses accuracy, averaged over images."""
        parts = self.reliability()
        return sum(p.n_images * abs(p.confidence - p.accuracy) for p in parts) / len(self.labels)

    def reliability(self) -> list[Bin]:
        """Returns the bins of confidence that hold images, by rising confidence."""
        places = np.ceil(self.confidence.astype(np.float64) * CALIBRATION_BINS).astype(int)
        right, found = self.predicted == self.labels, []
        for place in np.unique(places):
            there = places == place
            confidence = float(self.confidence[there].mean(dtype=np.float64))
            found.append(Bin(int(there.sum()), confidence, float(right[there].mean())))
        return found

    def confusion(self, n_classes: int) -> NDArray[np.int64]:
        """Returns how often an image of class i was taken for class j, at `[i, j]`."""
        return _counts(self.labels, self.predicted, n_classes)

    def by_class(self, names: tuple[str, ...]) -> list[OfClass]:
        """Returns the figures of each class, in order."""
        counts = self.confusion(len(names))
        found = []
        for turn, name in enumerate(names):
            right, n_images, n_predicted = counts[turn, turn], counts[turn].sum(), counts[:, turn].sum()
            found.append(
                OfClass(
                    name,
                    int(n_images),
                    _share(right, n_predicted),
                    _share(right, n_images),
                    _share(2 * right, n_images + n_predicted) if n_images else None,
                )
            )
        return found

    @cached_property
    def _counts(self) -> NDArray[np.int64]:
        return _counts(self.labels, self.predicted, int(max(self.labels.max(), self.predicted.max())) + 1)


def _counts(labels: NDArray[np.int64], predicted: NDArray[np.int64], n_classes: int) -> NDArray[np.int64]:
    places = labels * n_classes + predicted
    return np.bincount(places, minlength=n_classes**2).reshape(n_classes, n_classes)


def _share(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None
