"""How often a study names the better of two configurations: by one run each, by a race, by as many runs each.

A simulation. An image is right with a probability that depends on it, on the configuration and on the
quality of the run (its seed); validation images are drawn anew in each study. The truth is the mean over all
images and seeds. The race is that of `tuner/study/race.py`, decided by the same functions.

    python -m benchmarks.search.racing --json benchmarks/results/search_racing_MACHINE_YYYYMM.json
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.shared.machine import write_result
from tuner.findings.difference import Runs, difference, seed_variance
from tuner.study.race import MOST_SEEDS

EASE, TASTE, QUALITY = 3.0, 1.0, 0.12
"""Standard deviations of log odds: between images, between configurations on an image, between seeds.

With these, scores of 477 images vary by 1.6 points from seed to seed, which is more than those of emoji do
(0.5 to 1.6).
"""
PREDICTED = {"named, race, 2 points apart, 1000 images": 0.9, "named, one run each": 0.75}
"""Written before the first run."""


class Configuration:
    """What is true of a configuration, and its runs on some validation images."""

    def __init__(self, odds: float, ease: NDArray[np.float64], rng: np.random.Generator) -> None:
        self._odds = odds + ease + rng.normal(0, TASTE, len(ease))
        self._rng = rng
        self.right: list[NDArray[np.bool_]] = []

    def train(self) -> None:
        """Adds a run with another seed."""
        odds = self._odds + self._rng.normal(0, QUALITY)
        self.right.append(self._rng.random(len(odds)) < 1 / (1 + np.exp(-odds)))

    def runs(self) -> Runs:
        """Returns the runs so far, as a study knows them."""
        scores = [float(right.mean()) for right in self.right]
        influence = np.mean([right - right.mean() for right in self.right], axis=0) / len(self._odds)
        error = float(np.sqrt(scores[0] * (1 - scores[0]) / len(self._odds)))
        return Runs(scores, influence, error)


def odds_of(accuracy: float) -> float:
    """Returns the mean log odds with which the truth is `accuracy`."""
    spread = np.random.default_rng(0).normal(0, np.hypot(np.hypot(EASE, TASTE), QUALITY), 400_000)
    low, high = -5.0, 15.0
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (
            (middle, high) if np.mean(1 / (1 + np.exp(-middle - spread))) < accuracy else (low, middle)
        )
    return (low + high) / 2


def simulated(apart: float, images: int, most_runs: int, seed: int) -> dict[str, Any]:
    """Returns whether each rule names the better one in a study, and how many runs the race added."""
    rng = np.random.default_rng(seed)
    ease = rng.normal(0, EASE, images)
    better, worse = (Configuration(odds_of_cached(0.8 + part), ease, rng) for part in (apart, 0.0))
    for one in (better, worse):
        one.train()
    first = difference(better.runs(), worse.runs()).mean
    added = 0
    while added + 2 <= most_runs and len(better.right) <= MOST_SEEDS:
        runs = better.runs(), worse.runs()
        variance = seed_variance(runs)
        if difference(*runs, variance).is_sure or difference(*runs[::-1], variance).is_sure:
            break
        better.train()
        worse.train()
        added += 2
    raced = difference(better.runs(), worse.runs()).mean
    return {"first": _named(first, rng), "raced": _named(raced, rng), "added": added}


def fixed(apart: float, images: int, runs_each: int, seed: int) -> float:
    """Returns whether the mean of `runs_each` runs names the better one in a study."""
    rng = np.random.default_rng(seed)
    ease = rng.normal(0, EASE, images)
    both = [Configuration(odds_of_cached(0.8 + part), ease, rng) for part in (apart, 0.0)]
    for one in both:
        for _ in range(runs_each):
            one.train()
    return _named(both[0].runs().mean - both[1].runs().mean, rng)


def _named(gap: float, rng: np.random.Generator) -> float:
    return float(gap > 0 or (gap == 0 and rng.random() < 0.5))


_KNOWN: dict[float, float] = {}


def odds_of_cached(accuracy: float) -> float:
    """Returns `odds_of(accuracy)`, found once."""
    if accuracy not in _KNOWN:
        _KNOWN[accuracy] = odds_of(accuracy)
    return _KNOWN[accuracy]


def row_of(apart: float, images: int, most_runs: int, studies: int) -> dict[str, Any]:
    """Returns the shares of studies that named the better one, and the runs that the race added."""
    found = [simulated(apart, images, most_runs, seed) for seed in range(studies)]
    added = float(np.mean([one["added"] for one in found]))
    each = 1 + round(added / 2)
    return {
        "apart_points": round(100 * apart, 1),
        "validation_images": images,
        "most_runs": most_runs,
        "named_one_run_each": round(float(np.mean([one["first"] for one in found])), 3),
        "named_race": round(float(np.mean([one["raced"] for one in found])), 3),
        "runs_added_mean": round(added, 2),
        "named_same_cost": round(float(np.mean([fixed(apart, images, each, s) for s in range(studies)])), 3),
        "runs_each_same_cost": each,
    }


def main() -> None:
    """Simulates studies, and writes a row per size of the validation set and difference."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    rows = [
        row_of(apart, images, most_runs, args.studies)
        for apart in (0.01, 0.02, 0.04)
        for images in (250, 500, 1000, 4000)
        for most_runs in (4, 16)
    ]
    for row in rows:
        print(row)
    write_result(args.json, {"predicted_before": PREDICTED, "studies": args.studies, "rows": rows})


if __name__ == "__main__":
    main()
