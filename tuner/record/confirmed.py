"""What trials reached with other seeds (`--confirm`, or the race). Imports neither torch nor ray."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinytl.files import write_whole
from tuner.record.by_trial import read_by_trial

FOLDER = "confirm"
"""In the study's folder: a run's folder for each seed with which a trial was trained again (`run_name`)."""
FILE = "confirm.json"
"""In the study's folder: by trial and seed, each of `METRICS` or the `failure` of each run."""
Outcomes = dict[str, dict[int, dict[str, Any]]]
"""By trial and seed: each of `METRICS` on the validation images, or `failure`."""


def run_name(trial: str, seed: int) -> str:
    """Returns the name of the folder, in `FOLDER`, of a trial's run with another seed."""
    return f"{trial}-seed{seed}"


def confirmed_result(
    own: float, runs: Mapping[int, Mapping[str, Any]], metric: str = "accuracy_top1"
) -> ConfirmedResult | None:
    """Returns a trial's metric in the study beside that of `runs`, by seed; None if there are no runs."""
    if not runs:
        return None
    return ConfirmedResult(
        own=own,
        again={seed: run[metric] for seed, run in sorted(runs.items()) if metric in run},
        failures={seed: run["failure"] for seed, run in sorted(runs.items()) if "failure" in run},
    )


def read_outcomes(folder: Path) -> Outcomes:
    """Returns what is in a study's `confirm.json`: nothing if there is no such file.

    Raises:
        ConfigError: for a file that is damaged.
    """

    def by_seed(runs: Any) -> dict[int, dict[str, Any]]:
        return {int(seed): dict(run) for seed, run in runs.items()}

    return read_by_trial(folder / FILE, by_seed, "finished runs are read again")


def write_outcomes(folder: Path, outcomes: Outcomes) -> None:
    """Writes `confirm.json`, whole or not at all, in the order of trials and seeds, whichever ended first.

    Raises:
        ConfigError: if it cannot be written.
    """
    ordered = {trial: dict(sorted(seeds.items())) for trial, seeds in sorted(outcomes.items())}
    write_whole(folder / FILE, json.dumps(ordered, indent=2) + "\n")


@dataclass(frozen=True, kw_only=True)
class ConfirmedResult:
    """A trial's validation accuracy in the study, and after training it again."""

    own: float
    """The accuracy that put the trial on the front."""
    again: Mapping[int, float]
    """By seed."""
    failures: Mapping[int, str] = field(default_factory=dict)
    """Why a run gave no accuracy, by seed."""

    @property
    def seeds(self) -> int:
        """How many accuracies there are, the study's own included."""
        return 1 + len(self.again)

    @property
    def mean(self) -> float:
        """Mean of the study's own accuracy and the others."""
        return statistics.fmean([self.own, *self.again.values()])

    @property
    def deviation(self) -> float:
        """Standard deviation of a sample; NaN if there is one accuracy."""
        return statistics.stdev([self.own, *self.again.values()]) if self.again else math.nan
