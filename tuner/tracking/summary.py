"""What a study's own run says of it: figures that compare studies, and a table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from tuner.findings.findings import Findings
from tuner.record.results import TrialResult, complete_trials
from tuner.tracking.runs import StudyLabels
from tuner.tracking.trials import StoredTrial

FIRST_COLUMNS = ("trial", "state", "on_front")
FIGURES = ("accuracy_top1", "peak_memory_mib", "epoch_time_s")


@dataclass(frozen=True, kw_only=True)
class StudySummary:
    """A study as it stands, for its run in MLflow."""

    study: optuna.Study
    labels: StudyLabels
    findings: Findings
    complete: Sequence[TrialResult]
    rows: Sequence[Mapping[str, Any]]
    """The trials that ran, in order: what names each, its figures, and under `params` what was searched."""

    @property
    def title(self) -> str:
        """Returns network, data set and length, as above the pictures."""
        known = self.labels.identity
        epochs = "" if "epochs" not in known else f", {known['epochs']} epochs"
        return f"{known.get('backbone', 'network')} on {known['dataset']}{epochs}"

    @property
    def metrics(self) -> dict[str, float]:
        """Returns what compares studies."""
        found: dict[str, float] = {}
        if self.findings.status.hypervolume is not None:
            found["hypervolume"] = self.findings.status.hypervolume.fraction
        if self.findings.best is not None:
            found["best_accuracy_top1"] = self.findings.best.accuracy_top1
            found["best_peak_memory_mib"] = self.findings.best.peak_memory_mib
        return {key: value for key, value in found.items() if math.isfinite(value)}


def read_summary(
    study: optuna.Study, trials: Sequence[StoredTrial], findings: Findings, labels: StudyLabels
) -> StudySummary:
    """Reads what a study's own run says of it."""
    complete = complete_trials(study)
    figures = {result.trial: result for result in complete}
    rows = []
    for trial in trials:
        if trial.state in ("running", "infeasible"):
            continue
        result = figures.get(trial.name)
        own = {"trial": trial.name, "state": trial.state, "on_front": trial.on_front}
        own |= {"accuracy_top1": None, "peak_memory_mib": trial.peak_memory_mib, "epoch_time_s": None}
        if result is not None:
            own |= {"accuracy_top1": result.accuracy_top1, "epoch_time_s": result.epoch_time_s}
        own |= {key: value for key, (value, _) in trial.judged.items()}
        rows.append(own | {"params": dict(trial.params)})
    return StudySummary(study=study, labels=labels, findings=findings, complete=complete, rows=rows)


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
