"""By how much one configuration is better than another, and how sure that is. Imports neither torch nor ray.

Two things move a metric: the validation images, and the seed. All runs of a study judge the same images, so
what two runs say of each image is compared, image by image: much of what makes an accuracy uncertain is the
same for both, and falls out. How far seeds move a metric is known once something was trained with several; it
is taken to be alike for all configurations of a study.
"""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SURE = 2.0
"""A difference of so many standard errors is taken to be real: 95 % for one comparison."""


class Runs(NamedTuple):
    """The runs of one configuration: a score for each, and its influences, if they are known."""

    scores: Sequence[float]
    """The metric of each run on the validation images, 0 to 1; its own seed's first."""
    influence: NDArray[np.float64] | None
    """`(N,)`: by how much each validation image moves the mean of `scores` (`Judgements.influence`)."""
    standard_error: float
    """How far other images would move the score of one run."""

    @property
    def mean(self) -> float:
        """The mean score."""
        return statistics.fmean(self.scores)


class Difference(NamedTuple):
    """A difference of two metrics, as fractions; NaN: how sure it is, is not known."""

    mean: float
    standard_error: float

    @property
    def is_sure(self) -> bool:
        """Whether the first is really better: by more than `SURE` standard errors."""
        return self.mean > SURE * self.standard_error

    @property
    def points(self) -> str:
        """The difference in hundredths: `6.0 ± 2.6 points`."""
        spread = "" if math.isnan(self.standard_error) else f" ± {100 * self.standard_error:.1f}"
        return f"{100 * self.mean:.1f}{spread} points"


def seed_variance(all_runs: Sequence[Runs]) -> float | None:
    """Returns the variance of a score from seed to seed, over all configurations that have several runs.

    None if there are none.
    """
    freedom = sum(len(runs.scores) - 1 for runs in all_runs)
    if freedom == 0:
        return None
    return sum((score - runs.mean) ** 2 for runs in all_runs for score in runs.scores) / freedom


def difference(first: Runs, second: Runs, variance_over_seeds: float | None = None) -> Difference:
    """Returns by how much `first` is better than `second`.

    The variances of what images and what seeds move add up. Without `variance_over_seeds` the difference is
    that of these trained networks, not of their configurations.
    """
    from_images = image_variance(first, second)
    from_seeds = (variance_over_seeds or 0.0) * (1 / len(first.scores) + 1 / len(second.scores))
    return Difference(first.mean - second.mean, math.sqrt(from_images + from_seeds))


def image_variance(first: Runs, second: Runs) -> float:
    """Returns the variance of the difference of two means that other validation images would make."""
    if (
        first.influence is None or second.influence is None or first.influence.shape != second.influence.shape
    ):  # not compared image by image: as if each had judged images of its own, which is more than it is
        return first.standard_error**2 + second.standard_error**2
    return float(np.sum((first.influence - second.influence) ** 2))
