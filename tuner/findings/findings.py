"""What a study has found, on one screen. Imports neither torch nor ray."""

from __future__ import annotations

import textwrap

from rich.console import Console

from tinytl.config.names import METRICS
from tuner.findings.importance import MIN_TRIALS, MOST_TRIALS
from tuner.findings.kept_importance import known_importance
from tuner.findings.sureness import Sureness
from tuner.findings.text import (
    accuracy_text,
    capitalized,
    counts_line,
    describe,
    front_table,
    hypervolume_line,
    importance_line,
    spread,
)
from tuner.record.reading import StudyReading

_OBJECTIVES = {**METRICS, "peak_memory_mib": "memory"}


def print_findings(
    console: Console,
    study: StudyReading,
    *,
    most_rows: int | None = None,
    where_all: str = "",
    sureness: Sureness | None = None,
) -> None:
    """Prints counts, the front, its hypervolume, what decides it, and the best within the budget.

    Of a front longer than `most_rows`, prints that many rows and `where_all`, the command that prints all;
    then the best has two lines. `sureness`: how sure the study is, if the caller has found that.
    """

    def line(text: str) -> None:
        console.print(text, highlight=False, markup=False)

    line(counts_line(study))
    if not study.front:
        return
    shown = spread(study.front, most_rows or len(study.front))
    table = front_table(shown, console.width)
    if most_rows is None:
        console.print(table)
    else:
        caption, table.caption, table.show_edge = table.caption, None, False
        console.print(table)
        if caption:
            line(textwrap.shorten(str(caption), console.width - 1, placeholder=" ..."))
    if len(shown) < len(study.front):
        line(f"and {len(study.front) - len(shown)} more: {where_all}")
    volume = hypervolume_line(study)
    if volume is not None:
        line(volume)
    importance = known_importance(study)
    if importance is None:
        line(f"What decides: shown once {MIN_TRIALS} trials are complete")
    for objective, of_objective in (importance or {}).items():
        line(importance_line(capitalized(_OBJECTIVES[objective]), of_objective))
    if importance is not None and len(study.complete) > MOST_TRIALS:
        line(f"(What decides is judged from {MOST_TRIALS} of {len(study.complete):,} complete trials)")
    under = "" if study.budget_mib is None else f" under {study.budget_mib:g} MiB"
    best = f"Best{under}: {_best(study)}"
    if most_rows is not None:
        best = textwrap.shorten(best, 2 * console.width - 10, placeholder=" ...)")
    line(best)
    for text in (sureness or Sureness(study)).lines():
        line(text)


def _best(study: StudyReading) -> str:
    best = study.best
    if best is None:
        return "no trial"
    score = f"{best.metric_words} {accuracy_text(best)}"
    return f"{best.name}, {score} in {best.peak_memory_mib:.1f} MiB ({describe(best.params)})"
