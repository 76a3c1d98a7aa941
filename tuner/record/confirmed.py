"""What `--confirm` found: the front trained again with other seeds. Imports neither torch nor ray."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinytl.errors import ConfigError
from tinytl.files import write_whole
from tuner.record.results import TrialResult, within

FILE = "confirm.json"
"""In the study's folder: by trial and seed, `accuracy_top1` or the `failure` of each run."""
Outcomes = dict[str, dict[int, dict[str, Any]]]
"""By trial and seed: `accuracy_top1` on the validation images, or `failure`."""


def read_confirmed(folder: Path, front: Sequence[TrialResult]) -> dict[str, ConfirmedResult]:
    """Returns what a study's `confirm.json` says of the trials of its front: of none, where there is no file.

    Raises:
        ConfigError: for a file that is damaged.
    """
    return confirmed_results(front, read_outcomes(folder))


def confirmed_results(front: Sequence[TrialResult], outcomes: Outcomes) -> dict[str, ConfirmedResult]:
    """Returns the trials of the front that were trained again, by name."""
    found = {}
    for result in front:
        runs = sorted(outcomes.get(result.trial, {}).items())
        if runs:
            found[result.trial] = ConfirmedResult(
                trial=result.trial,
                own=result.accuracy_top1,
                again={seed: run["accuracy_top1"] for seed, run in runs if "accuracy_top1" in run},
                failures={seed: run["failure"] for seed, run in runs if "failure" in run},
            )
    return found


def best_confirmed(
    front: Sequence[TrialResult], confirmed: Mapping[str, ConfirmedResult], budget_mib: float | None
) -> TrialResult | None:
    """Returns the trial of the front with the best mean accuracy within the budget (None: any).

    Only trials that were trained again can be it, and one that failed with some seed only where all did.
    """
    fitting = [
        (confirmed[r.trial], r)
        for r in front
        if r.trial in confirmed and within(r.peak_memory_mib, budget_mib)
    ]
    best = max(fitting, key=lambda p: (not p[0].failures, p[0].mean, -p[1].peak_memory_mib), default=None)
    return best and best[1]


def read_outcomes(folder: Path) -> Outcomes:
    """Returns what is in a study's `confirm.json`: nothing where there is no such file.

    Raises:
        ConfigError: for a file that is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
        return {
            trial: {int(seed): dict(run) for seed, run in seeds.items()} for trial, seeds in content.items()
        }
    except (ValueError, TypeError, AttributeError):
        raise ConfigError(f"{path} is damaged: take it away, and finished runs are read again") from None


def write_outcomes(folder: Path, outcomes: Outcomes) -> None:
    """Writes `confirm.json`, whole or not at all, in the order of trials and seeds, whichever ended first.

    Raises:
        ConfigError: where it cannot be written.
    """
    ordered = {trial: dict(sorted(seeds.items())) for trial, seeds in sorted(outcomes.items())}
    write_whole(folder / FILE, json.dumps(ordered, indent=2) + "\n")


@dataclass(frozen=True, kw_only=True)
class ConfirmedResult:
    """A trial's validation accuracy in the study, and when it was trained again."""

    trial: str
    own: float
    """The accuracy that brought the trial on the front."""
    again: Mapping[int, float]
    """By seed."""
    failures: Mapping[int, str] = field(default_factory=dict)
    """Why a run gave no accuracy, by seed."""

    @property
    def seeds(self) -> int:
        """How many accuracies there are, the study's own among them."""
        return 1 + len(self.again)

    @property
    def mean(self) -> float:
        """Over the study's own accuracy and the others."""
        return statistics.fmean([self.own, *self.again.values()])

    @property
    def deviation(self) -> float:
        """Standard deviation of a sample; NaN of one accuracy."""
        return statistics.stdev([self.own, *self.again.values()]) if self.again else math.nan
