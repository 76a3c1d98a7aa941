"""The report's tables: rows as text for the page, and whole as CSV."""

import base64
import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from tinytl.config.names import METRICS
from tinytl.config.train_command import plan_flags
from tuner.findings.difference import Difference
from tuner.findings.sureness import Sureness
from tuner.findings.text import accuracy_text, describe, epoch_text, short, slowdown_text, test_text
from tuner.record.class_counts import ClassCounts
from tuner.record.reading import StudyReading
from tuner.record.results import within
from tuner.record.trials import Trial, known
from tuner.report.folders import Rows, largest


def best_of(study: StudyReading) -> dict[str, Any] | None:
    """Returns what stands beside the front's picture; None if no complete trial fits the budget."""
    best = study.best
    if best is None:
        return None
    mean, _, spread = accuracy_text(best).partition(" ")
    return {
        "trial": best.name,
        "label": best.label,
        "accuracy": mean,
        "spread": spread,
        "test": test_text(best),
        "memory": f"{best.peak_memory_mib:.1f}",
        "slowdown": None if best.plan is None else slowdown_text(best),
        "epoch": epoch_text(best),
        "params": {key: short(value) for key, value in best.params.items()},
    }


def front_rows(study: StudyReading, sureness: Sureness) -> list[dict[str, Any]]:
    """Returns a row per trial of the front, with its configuration and the command that trains it."""
    found = []
    for trial in study.front:
        no_better = sureness.no_better(trial)
        config = study.folder / trial.name / "config.yaml"
        text = None
        with suppress(OSError):
            text = config.read_text(errors="replace") if config.is_file() else None
        command = ["python -m tinytl train --config", shlex.quote(str(config)), *plan_flags(trial.plan)]
        found.append(
            figures_of(trial)
            | {
                "no_better": "" if no_better is None else no_better.name,
                "params": describe(trial.params),
                "config": text,
                "command": " ".join([*command, "--out my_run"]),
            }
        )
    return found


def baseline_rows(study: StudyReading, gains: Mapping[str, Difference]) -> list[dict[str, Any]]:
    """Returns a row per baseline that began, and what the search gained over it.

    `gains`: by baseline (`Sureness.gains`).
    """
    found = []
    for trial in study.trials:
        if trial.baseline is None:
            continue
        if trial.state != "complete":
            row = {"trial": trial.name, "state": _why(trial)}
        else:
            row = figures_of(trial) | {"state": ""}
        found.append({**row, "baseline": str(trial.baseline), "gain": _gain(study, gains, trial)})
    return found


def _gain(study: StudyReading, gains: Mapping[str, Difference], trial: Trial) -> str:
    if trial.state != "complete" or study.best is None:
        return ""
    if trial.name == study.best.name:
        return "it is the best"
    gain = gains.get(str(trial.baseline))
    if gain is None:
        fits = within(trial.peak_memory_mib, study.budget_mib)
        return "" if fits else "over the budget: not compared"
    return f"{gain.points}{'' if gain.is_sure else ' (not sure)'}"


def running_rows(study: StudyReading, rows: Rows) -> list[dict[str, str]]:
    """Returns a row per trial that trains now, with the metric of its last epoch."""
    found = []
    for trial in study.trials:
        if trial.state == "running":
            epochs = rows.get(trial.name, ())
            score = epochs[-1].get(study.metric) if epochs else None
            found.append(
                {
                    "label": trial.label,
                    "epochs": str(len(epochs)),
                    "score": f"{score:.3f}" if isinstance(score, (int, float)) else "",
                    "params": describe(trial.params),
                }
            )
    return found


def trial_row(trial: Trial, parameters: Sequence[str], epochs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns a line of the table of all trials, as text. `epochs`: what the trial's folder has of each."""
    reason = trial.failure or (f"stopped at epoch {trial.stopped_at}" if trial.stopped_at else "")
    figures = (
        (known(trial.score), ".4f"),
        (known(trial.standard_error), ".4f"),
        (known(trial.peak_memory_mib), ".1f"),
        (known(trial.slowdown), ".2f"),
        (known(trial.trained_memory_mib), ".1f"),
        (largest("measured_peak_mib", epochs), ".1f"),
        (largest("process_peak_mib", epochs), ".0f"),
        (known(trial.epoch_time_s), ".1f"),
        (len(epochs), "d"),
    )
    return {
        "trial": trial.name,
        "label": trial.label,
        "on_front": trial.on_front,
        "state": trial.state,
        "figures": ["" if value is None else format(value, spec) for value, spec in figures],
        "params": [short(trial.params[key]) if key in trial.params else "" for key in parameters],
        "reason": reason,
    }


def csv_links(study: StudyReading, sureness: Sureness, classes: ClassCounts | None) -> dict[str, str]:
    """Returns each table as a `data:` address, whole: the columns of `StudyReading.rows`, all digits."""
    rows = study.rows()
    by_name = {row["trial"]: row for row in rows}
    alike = {trial.name for trial in sureness.contenders}
    front = [
        {
            **by_name[trial.name],
            "cannot_be_told_from_best": trial.name in alike,
            "plan": "" if trial.plan is None else trial.plan.describe(),
        }
        for trial in study.front
    ]
    gains = sureness.gains
    baselines = []
    for trial in study.trials:
        if trial.baseline is not None:
            gain = gains.get(trial.baseline)
            own = {"baseline": trial.baseline, "gain": gain and gain.mean}
            own["gain_standard_error"] = gain and known(gain.standard_error)
            baselines.append({**own, **by_name[trial.name]})
    tables = {"front": front, "baselines": baselines, "trials": rows, "classes": class_rows(classes)}
    return {name: csv_address(table) for name, table in tables.items() if table}


def class_rows(classes: ClassCounts | None) -> list[dict[str, Any]]:
    """Returns a row per class with its number of images in each split; none if they are not known."""
    if classes is None:
        return []
    return [
        {"class": name} | {split: counts[index] for split, counts in classes.images.items()}
        for index, name in enumerate(classes.names)
    ]


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns rows as CSV, with a line of all their keys first."""
    out = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def csv_address(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns rows as CSV inside a `data:` address: a page that loads nothing gives it as a download."""
    return f"data:text/csv;charset=utf-8;base64,{base64.b64encode(csv_text(rows).encode()).decode()}"


def figures_of(trial: Trial) -> dict[str, Any]:
    """Returns the figures of a complete trial as text."""
    return {
        "trial": trial.name,
        "label": trial.label,
        "accuracy": accuracy_text(trial),
        "test": test_text(trial) or "-",
        "memory": f"{trial.peak_memory_mib:.1f}",
        "slowdown": slowdown_text(trial),
        "epoch": epoch_text(trial),
    }


def _why(trial: Trial) -> str:
    if trial.stopped_at:
        words = METRICS[trial.metric]
        return f"stopped at epoch {trial.stopped_at}, with {words} {trial.score:.3f}"
    return trial.state + (f": {trial.failure}" if trial.failure else "")
