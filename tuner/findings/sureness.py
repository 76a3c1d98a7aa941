"""How sure a study's answer is: what cannot be told apart from the best, what was gained, and what was luck.

Imports neither torch nor ray.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinytl.errors import ConfigError
from tinytl.plural import counted
from tinytl.runs.directory import RunDirectory
from tinytl.runs.judgements_file import read_judgements
from tinytl.training.judgements import Judgements
from tuner.findings.difference import SURE, Difference, Runs, difference, seed_variance
from tuner.record.confirmed import FOLDER, run_name
from tuner.record.reading import StudyReading
from tuner.record.results import within
from tuner.record.trials import Trial, known

NAMED = 3
"""How many trials a line names."""
RESAMPLES = 400
"""Bootstrap samples of the validation images."""
LEAST_TOLD = 0.0005
"""Luck of less is not told: it is 0.0 points."""
MOST_COMPARED = 100
"""Of the complete trials, so many with the best figures are asked how much luck chose the best."""


class Sureness:
    """What a study's judgements of its validation images say beyond its figures.

    Files are read as they are needed; a trial of an older study has none, and then what is known of it is
    its standard error, or nothing.
    """

    def __init__(self, study: StudyReading) -> None:
        self.study = study
        self.runs = cache(self._runs)

    @cached_property
    def fitting(self) -> list[Trial]:
        """The complete trials within the budget."""
        return [t for t in self.study.complete if within(t.peak_memory_mib, self.study.budget_mib)]

    @cached_property
    def seed_variance(self) -> float | None:
        """The variance of the metric from seed to seed; None if nothing was trained again."""
        again = [t for t in self.study.complete if t.confirmed is not None and t.confirmed.again]
        return seed_variance([Runs(_scores(trial), None, math.nan) for trial in again])

    @cached_property
    def contenders(self) -> list[Trial]:
        """The best trial, and those within the budget that cannot be told apart from it, the better first.

        Empty if there is no best; the best alone if how sure its figure is, is not known.
        """
        best = self.study.best
        if best is None:
            return []
        others = [
            trial for trial in self.fitting if trial.name != best.name and not self._is_apart(best, trial)
        ]
        return [best, *sorted(others, key=lambda trial: (-mean_score(trial), trial.peak_memory_mib))]

    def no_better(self, trial: Trial) -> Trial | None:
        """Returns the trial of the front with the least memory that `trial`, one of the front with more
        memory, is not surely better than; None if it is surely better than all of them.
        """
        below = [t for t in self.study.front if t.peak_memory_mib < trial.peak_memory_mib]
        return next((t for t in below if not self._is_apart(trial, t)), None)

    @cached_property
    def gains(self) -> dict[str, Difference]:
        """By how much the best is better than each complete baseline within the budget, by its name."""
        best = self.study.best
        if best is None:
            return {}
        others = [t for t in self.fitting if t.baseline is not None and t.name != best.name]
        return {str(trial.baseline): self.difference(best, trial) for trial in others}

    @cached_property
    def luck(self) -> float | None:
        """By how much the best one's figure is expected to be too good, as it is the best of many.

        Validation images are drawn again, with repetition: how much better does the one that is chosen by
        those drawn look on them than on the others? None for a single trial, for one that was trained again
        (its mean depends less on the run that was chosen, and by how much is not estimated), or if judgements
        are missing.
        Source: Tsamardinos, Greasidou, Borboudakis, Machine Learning 107, 2018 (bootstrap bias correction).
        """
        best = self.study.best
        if best is None or (best.confirmed is not None and best.confirmed.again):
            return None
        compared = sorted(self.fitting, key=lambda t: -t.score)[:MOST_COMPARED]
        influences = [self.runs(trial.name).influence for trial in compared]
        found = [x for x in influences if x is not None]
        if len(found) < 2 or len(found) < len(compared) or len({len(x) for x in found}) > 1:
            return None
        return luck_of_the_best(np.array([t.score for t in compared]), np.stack(found))

    def difference(self, first: Trial, second: Trial) -> Difference:
        """Returns by how much `first` is better than `second` in the study's metric."""
        return difference(self.runs(first.name), self.runs(second.name), self.seed_variance)

    def lines(self) -> list[str]:
        """Returns what a reader has to know before a trial is chosen, a sentence a line.

        None if all is sure, or nothing is known.
        """
        return [
            *self._alike_line(),
            *self._front_line(),
            *self._failed_lines(),
            *self._gain_lines(),
            *self._luck_line(),
        ]

    def _alike_line(self) -> list[str]:
        others = self.contenders[1:]
        if not others:
            return []
        least = min(others, key=lambda trial: trial.peak_memory_mib)
        several = f", the least memory of them {least.peak_memory_mib:.1f} MiB" if len(others) > 1 else ""
        named = ", ".join(trial.name for trial in others[:NAMED])
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        memory = f" ({least.peak_memory_mib:.1f} MiB)" if len(others) == 1 else ""
        return [f"Cannot be told apart from the best: {named}{memory}{more}{several}"]

    def _front_line(self) -> list[str]:
        unsure = [(trial, self.no_better(trial)) for trial in self.study.front]
        pairs = [f"{trial.name} (than {other.name})" for trial, other in unsure if other is not None]
        more = f" and {len(pairs) - NAMED} more" if len(pairs) > NAMED else ""
        told = f"Not surely better than one with less memory: {', '.join(pairs[:NAMED])}{more}"
        return [told] if pairs else []

    def _failed_lines(self) -> list[str]:
        """Says of the best, and of what cannot be told apart from it, that a training failed."""
        return [
            f"{trial.name} failed with {counted(len(trial.confirmed.failures), 'other seed')} "
            f"({next(iter(trial.confirmed.failures.values()))}): its mean is of those that ended, and a new "
            "training may fail, too"
            for trial in self.contenders
            if trial.confirmed is not None and trial.confirmed.failures
        ]

    def _gain_lines(self) -> list[str]:
        found = gain_texts(self.gains)
        return [f"The search gained {', '.join(found)}"] if found else []

    def _luck_line(self) -> list[str]:
        best, luck = self.study.best, self.luck
        if best is None or not luck or luck < LEAST_TOLD:
            return []
        return [
            f"The best of {len(self.fitting)} by the same images looks better than it is: by about "
            f"{100 * luck:.1f} points, so expect {best.score - luck:.3f}"
        ]

    def to_json(self) -> dict[str, Any]:
        """Returns what `python -m tuner status --json` prints of it."""
        return {
            "cannot_be_told_from_best": [trial.name for trial in self.contenders[1:]],
            "gains": {
                name: {"mean": gain.mean, "standard_error": known(gain.standard_error)}
                for name, gain in self.gains.items()
            },
            "luck_of_the_best": self.luck,
        }

    def _is_apart(self, better: Trial, other: Trial) -> bool:
        """Whether `better` is surely better; without figures of how sure it is, the figures are believed."""
        apart = mean_score(better) - mean_score(other)
        seeds = math.sqrt(self.seed_variance or 0.0)
        # No difference is less sure than this, so most need no file.
        most = better.standard_error + other.standard_error + 2 * seeds
        if math.isnan(most) or apart > SURE * most:
            return apart > 0
        return self.difference(better, other).is_sure

    def _runs(self, name: str) -> Runs:
        trial = self.study.trial(name)
        folders = [self.study.folder / name]
        if trial.confirmed is not None:
            again = self.study.folder / FOLDER
            folders += [again / run_name(name, seed) for seed in trial.confirmed.again]
        judged = [judgements_in(folder) for folder in folders]
        found = [one.influence(trial.metric) for one in judged if one is not None]
        whole = len(found) == len(folders) and len({len(x) for x in found}) == 1
        return Runs(_scores(trial), np.mean(found, axis=0) if whole else None, trial.standard_error)


def mean_score(trial: Trial) -> float:
    """Returns a trial's metric: the mean over seeds, if it was trained again."""
    return trial.score if trial.confirmed is None else trial.confirmed.mean


def gain_texts(gains: Mapping[str, Difference]) -> list[str]:
    """Returns what was gained over each baseline: `6.0 ± 2.6 points over user_report`."""
    return [
        f"{gain.points} over {name}{'' if gain.is_sure else ' (not sure)'}" for name, gain in gains.items()
    ]


def judgements_in(folder: Path) -> Judgements | None:
    """Returns what a run's network says of the validation images; None if that is not known."""
    try:
        return read_judgements(RunDirectory(folder).val_judgements)
    except ConfigError:  # a damaged file of figures must not hide a study
        return None


def luck_of_the_best(scores: NDArray[np.float64], influences: NDArray[np.float64]) -> float:
    """Returns by how much the largest of `scores`, `(T,)`, is expected to be too large.

    `influences`: `(T, N)`. The same figures give the same result.
    """
    n_images = influences.shape[1]
    rng = np.random.default_rng(0)
    unseen = []
    for _ in range(RESAMPLES):
        drawn = np.bincount(rng.integers(0, n_images, n_images), minlength=n_images)
        out = drawn == 0
        if not out.any():
            continue
        seen = scores + influences @ drawn
        chosen = int(np.argmax(seen))
        unseen.append(scores[chosen] + influences[chosen][out].sum() * n_images / out.sum())
    return max(0.0, float(scores.max() - np.mean(unseen))) if unseen else 0.0


def _scores(trial: Trial) -> Sequence[float]:
    return [trial.score] if trial.confirmed is None else [trial.score, *trial.confirmed.again.values()]
