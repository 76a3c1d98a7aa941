"""What a study's own run says about it: figures that compare studies, and a table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tinytl.config.names import METRICS
from tinytl.plural import counted
from tuner.findings.sureness import Sureness
from tuner.record import schema
from tuner.record.identity import network_in_words
from tuner.record.reading import StudyReading
from tuner.record.trials import known
from tuner.tracking.runs import StudyLabels
from tuner.tracking.trials import judged

FIRST_COLUMNS = ("trial", "state", "on_front")
FIGURES = (*METRICS, "peak_memory_mib", "slowdown", "epoch_time_s")


@dataclass(frozen=True, kw_only=True)
class StudySummary:
    """A study as it stands, for its run in MLflow."""

    study: StudyReading
    labels: StudyLabels

    @property
    def title(self) -> str:
        """Returns network, data set and length, as in the titles of the pictures."""
        identity = self.labels.identity
        epochs = "" if schema.EPOCHS not in identity else f", {counted(identity[schema.EPOCHS], 'epoch')}"
        return f"{network_in_words(identity)} on {identity[schema.DATASET]}{epochs}"

    @property
    def metrics(self) -> dict[str, float]:
        """Returns what compares studies."""
        found: dict[str, float] = {}
        if self.study.hypervolume is not None:
            found["hypervolume"] = self.study.hypervolume.fraction
        if self.study.best is not None:
            found |= {f"best_{name}": getattr(self.study.best, name) for name in METRICS}
            found["best_peak_memory_mib"] = self.study.best.peak_memory_mib
            found["best_standard_error"] = self.study.best.error_over_seeds
            found |= {f"gain_over_{name}": gain.mean for name, gain in Sureness(self.study).gains.items()}
        return {key: value for key, value in found.items() if math.isfinite(value)}

    @cached_property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """The trials that ran, in order: what names each, its figures, and what was searched (`params`)."""
        rows = []
        for trial in self.study.trials:
            if trial.state in ("running", "infeasible"):
                continue
            complete = trial.state == "complete"
            own = {"trial": trial.name, "state": trial.state, "on_front": trial.on_front}
            own |= {
                **{name: known(getattr(trial, name)) if complete else None for name in METRICS},
                "peak_memory_mib": known(trial.peak_memory_mib),
                "slowdown": known(trial.slowdown),
                "epoch_time_s": known(trial.epoch_time_s) if complete else None,
            }
            own |= {key: value for key, (value, _) in judged(trial).items()}
            rows.append(own | {"params": dict(trial.params)})
        return rows


def table(summary: StudySummary) -> tuple[list[str], list[list[Any]]]:
    """Returns the trials' columns and cells: what names a trial, its figures, then what was searched."""
    rows = [
        {key: value for key, value in row.items() if key != "params"} | row["params"] for row in summary.rows
    ]
    seen = {key for row in rows for key in row}
    judged = sorted(key for key in seen if key.startswith(("test_", "confirmed_")))
    first = [*FIRST_COLUMNS, *FIGURES[:1], *judged, *FIGURES[1:]]
    names = first + sorted(seen - set(first))
    return names, [[row.get(name) for name in names] for row in rows]
