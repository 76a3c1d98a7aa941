"""What the folders of a study's trials say, epoch by epoch, and what is missing there."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tuner.record import schema
from tuner.record.reading import StudyReading
from tuner.record.trials import read_rows

Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""The epochs of each trial."""
_NAMED_AT_MOST = 5


def read_folders(study: StudyReading) -> tuple[Rows, list[str]]:
    """Returns each trial's epochs, and what is missing from those that are complete."""
    epochs = int(study.attributes.get(schema.EPOCHS, 0))
    rows: dict[str, list[dict[str, Any]]] = {}
    missing, short_of = [], []
    for trial in study.trials:
        try:
            found = [row for row, _ in read_rows(study.folder / trial.name)]
        except OSError:
            found = []
        rows[trial.name] = found
        if trial.state == "complete" and not found:
            missing.append(trial.name)
        elif trial.state == "complete" and len(found) < epochs:
            short_of.append(trial.name)
    notes = []
    if missing:
        notes.append(
            f"No metrics in the folders of {_listed(missing)}: they have no curves, and no measured memory."
        )
    if short_of:
        notes.append(f"Epochs are missing in the metrics of {_listed(short_of)}: the file is damaged.")
    return rows, notes


def largest_of(figure: str, rows: Rows) -> dict[str, float]:
    """Returns the largest value of a figure of each trial that has one."""
    found = {trial: largest(figure, epochs) for trial, epochs in rows.items()}
    return {trial: value for trial, value in found.items() if value is not None}


def largest(figure: str, epochs: Sequence[Mapping[str, Any]]) -> float | None:
    """Returns the largest value above 0 of a figure among a trial's epochs; None if they have none."""
    values = [row.get(figure) for row in epochs]
    known = [v for v in values if isinstance(v, (int, float)) and math.isfinite(v) and v > 0]
    return max(known, default=None)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
