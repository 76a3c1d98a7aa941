"""What a study has found, from its storage and its folder, in one screen. Imports neither torch nor ray."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from rich.console import Console

from tuner.config import read_study_file
from tuner.findings.importance import MIN_TRIALS, parameter_importance
from tuner.findings.text import (
    counts_line,
    describe,
    front_table,
    hypervolume_line,
    importance_line,
    over_seeds,
    spread,
)
from tuner.record.accuracy_on_test import known_test_accuracies
from tuner.record.confirmed import ConfirmedResult, best_confirmed, read_confirmed
from tuner.record.results import StudyStatus, TrialResult, best_under, complete_trials, read_status, within

_OBJECTIVES = {"accuracy_top1": "Accuracy", "peak_memory_mib": "Memory"}


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Counts, front, and what is known of the front's trials beyond the search."""

    status: StudyStatus
    best: TrialResult | None
    """Within the budget; by the mean over seeds where the front was trained again."""
    budget_mib: float | None
    confirmed: Mapping[str, ConfirmedResult]
    test_accuracy: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Returns the contract of `python -m tuner status --json`, and more."""
        return self.status.to_json() | {
            "memory_budget_mib": self.budget_mib,
            "best": self.best and self.best.trial,
            "confirmed": {
                trial: {"mean": c.mean, "seeds": c.seeds, "failed": len(c.failures)}
                | ({"standard_deviation": c.deviation} if c.again else {})
                for trial, c in self.confirmed.items()
            },
            "test_accuracy_top1": dict(self.test_accuracy),
        }


def read_findings(study: optuna.Study, runs_dir: str, budget_mib: float | None = None) -> Findings:
    """Reads a study as it stands; its confirmation and test accuracy are in its folder, as its budget is
    where `budget_mib` is None.

    Raises:
        ConfigError: for a file in the folder that is damaged.
    """
    name = study.study_name
    folder = Path(runs_dir) / name
    if budget_mib is None:
        budget_mib = read_study_file(name, runs_dir).get("memory_budget_mib")
    status = read_status(study, budget_mib)
    front = status.pareto
    on_front = {result.trial for result in front}
    confirmed = read_confirmed(folder, front)
    best = best_under(complete_trials(study), budget_mib)
    fitting = [result for result in front if within(result.peak_memory_mib, budget_mib)]
    if all(result.trial in confirmed for result in fitting):  # else seeds would be held against luck
        best = best_confirmed(front, confirmed, budget_mib) or best
    return Findings(
        status=status,
        best=best,
        budget_mib=budget_mib,
        confirmed=confirmed,
        test_accuracy={k: v for k, v in known_test_accuracies(folder).items() if k in on_front},
    )


def print_findings(
    console: Console,
    study: optuna.Study,
    findings: Findings,
    *,
    most_rows: int | None = None,
    where_all: str = "",
) -> None:
    """Prints counts, the front, its hypervolume, what decides it, and the best within the budget.

    Of a front longer than `most_rows` as many, and `where_all`, what prints it all; then the best is told in
    two lines.
    """
    status = findings.status

    def line(text: str) -> None:
        console.print(text, highlight=False, markup=False)

    line(counts_line(status))
    if not status.pareto:
        return
    shown = spread(status.pareto, most_rows or len(status.pareto))
    table = front_table(shown, findings.confirmed, findings.test_accuracy)
    if most_rows is None:
        console.print(table)
    else:
        caption, table.caption, table.show_edge = table.caption, None, False
        console.print(table)
        if caption:
            line(textwrap.shorten(str(caption), console.width - 1, placeholder=" ..."))
    if len(shown) < len(status.pareto):
        line(f"and {len(status.pareto) - len(shown)} more: {where_all}")
    volume = hypervolume_line(status, findings.budget_mib)
    if volume is not None:
        line(volume)
    importance = parameter_importance(study)
    if importance is None:
        line(f"What decides: told once {MIN_TRIALS} trials are complete")
    for objective, shares in (importance or {}).items():
        line(importance_line(_OBJECTIVES[objective], shares))
    under = "" if findings.budget_mib is None else f" under {findings.budget_mib:g} MiB"
    best = f"Best{under}: {_best(findings)}"
    if most_rows is not None:
        best = textwrap.shorten(best, 2 * console.width - 10, placeholder=" ...)")
    line(best)


def _best(findings: Findings) -> str:
    best = findings.best
    if best is None:
        return "no trial"
    confirmed = findings.confirmed.get(best.trial)
    accuracy = f"{best.accuracy_top1:.3f}" if confirmed is None else over_seeds(confirmed)
    return f"{best.trial}, accuracy {accuracy} in {best.peak_memory_mib:.1f} MiB ({describe(best.params)})"
