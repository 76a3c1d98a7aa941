"""Trials, fronts and plans of a study as pandas tables: a row per trial or plan, units in the columns' names.

Memory is in MiB (`_mib`), time in seconds (`_s`), accuracy a fraction. Imports pandas when asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from tuner.findings.sureness import Sureness
from tuner.record.reading import StudyReading
from tuner.record.trials import Trial

if TYPE_CHECKING:
    from pandas import DataFrame

TEXTS = ("failure", "source")
"""Columns that are text, also if no trial has a value."""


def trials_table(study: StudyReading) -> "DataFrame":
    """Returns a row per trial, in order; the columns are those of `StudyReading.rows`."""
    return frame(study.rows(), columns_of(study))


def front_table(study: StudyReading) -> "DataFrame":
    """Returns a row per pair of configuration and plan on the front, by rising memory.

    `micro_batch_size` and `checkpoint` are those of the plan; None in a study that is older than plans.
    """
    rows = {row["trial"]: row for row in study.rows()}
    pairs = [_with_plan(rows[trial.name], trial) for trial in study.front]
    columns = list(_with_plan(dict.fromkeys(columns_of(study)), Trial(name="", params={})))
    return frame(pairs, columns)


def baselines_table(study: StudyReading) -> "DataFrame":
    """Returns a row per trial that is a baseline of the space, its name first."""
    rows = {row["trial"]: row for row in study.rows()}
    named = [
        {"baseline": trial.baseline} | rows[trial.name]
        for trial in study.trials
        if trial.baseline is not None
    ]
    return frame(named, ["baseline", *columns_of(study)])


def contenders_table(study: StudyReading) -> "DataFrame":
    """Returns a row per trial that cannot be told apart from the best, which is the first."""
    rows = {row["trial"]: row for row in study.rows()}
    return frame([rows[trial.name] for trial in Sureness(study).contenders], columns_of(study))


def gains_table(study: StudyReading) -> "DataFrame":
    """Returns a row per baseline: by how much the best is better, as a fraction, and how sure that is."""
    rows = [
        {"baseline": name, **gain._asdict(), "is_sure": gain.is_sure}
        for name, gain in Sureness(study).gains.items()
    ]
    return frame(rows, ["baseline", "mean", "standard_error", "is_sure"])


def curve_table(trial: Trial) -> "DataFrame":
    """Returns a row per plan of a trial that no other beats in memory and time, the fastest first.

    `of_front`: whether it is the plan with which the trial counts in the study, the least memory within
    `--max-slowdown`. No rows for a trial of an older study, or one that was never predicted.
    """
    names = ["peak_memory_mib", "slowdown", "micro_batch_size", "checkpoint", "of_front"]
    rows = []
    for plan in trial.curve:
        own = asdict(plan) | {"of_front": plan is trial.plan}
        rows.append({name: own[name] for name in names} | own | {"plan": plan.describe()})
    return frame(rows, names)


def columns_of(study: StudyReading) -> list[str]:
    """Returns the columns of the trials' table; those of the searched values are known from the trials."""
    without = replace(study, trials=[Trial(name="", params={})]).rows()[0]
    return list(dict.fromkeys([*without, *(key for trial in study.trials for key in trial.params)]))


def _with_plan(row: Mapping[str, Any], trial: Trial) -> dict[str, Any]:
    """Returns a trial's row with its plan behind the slowdown."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        found[key] = value
        if key == "slowdown":
            found["micro_batch_size"] = trial.plan and trial.plan.micro_batch_size
            found["checkpoint"] = trial.plan and trial.plan.checkpoint
    return found


def frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> "DataFrame":
    """Returns a table that has its columns without rows, too; a figure that no row has is NaN."""
    from pandas import DataFrame

    table = DataFrame(list(rows), columns=list(dict.fromkeys([*columns, *(rows[0] if rows else ())])))
    empty = [name for name in table if name not in TEXTS and table[name].isna().all() and len(table)]
    return table.astype(dict.fromkeys(empty, float))
