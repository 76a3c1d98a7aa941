"""The note that MLflow shows first for a study: its front, the best, where to look, how to repeat it."""

from collections.abc import Mapping, Sequence

from tinytl.config.names import METRICS
from tinytl.plural import counted
from tuner.findings.sureness import Sureness
from tuner.findings.text import accuracy_text, describe, shared_params, slowdown_text, test_text
from tuner.record import schema
from tuner.record.trials import known
from tuner.tracking.summary import StudySummary
from tuner.tracking.view import charts_path, front_path, runs_path, view_path

LONGEST = 8000
"""Most characters that a tag holds."""
ROWS_SHOWN = (20, 10, 5, 2)
"""Only the most accurate of the front: as many as a tag has room for."""


def note(summary: StudySummary, run_ids: Mapping[str, str], experiment_id: str) -> str:
    """Returns the study in Markdown: its front, the best, where to look, and how to repeat it.

    `run_ids`: the ids of the trials' runs, by name.
    """
    sure = Sureness(summary.study).lines()
    texts = (_note(summary, run_ids, experiment_id, rows, sure) for rows in ROWS_SHOWN)
    return next((text for text in texts if len(text) <= LONGEST), summary.title)


def _note(
    summary: StudySummary, run_ids: Mapping[str, str], experiment_id: str, rows: int, sure: Sequence[str]
) -> str:
    study, labels = summary.study, summary.labels
    front = study.front[-rows:]
    searched = f"{counted(study.requested, 'trial')} of space `{labels.identity[schema.SPACE]}`"
    lines = [f"**{summary.title}**: {searched}."]
    if front:
        lines += ["", *_front_lines(summary, run_ids, experiment_id, rows)]
    if study.best is not None:
        under = "" if study.budget_mib is None else f" under {study.budget_mib:g} MiB"
        lines += ["", f"**Best{under}: {study.best.label}**, {describe(study.best.params)}."]
        lines += [f"- {text}" for text in sure]
    ids = [run_ids[trial.name] for trial in front if trial.name in run_ids]
    links = [(f"trials by {METRICS[summary.study.metric]}", view_path(labels.name, experiment_id))]
    links += [("charts", charts_path(labels.name, experiment_id))]
    links += [("the study with its trials below", runs_path(labels.name, experiment_id))]
    links += [("the front compared", front_path(ids, experiment_id))] if len(ids) > 1 else []
    lines += ["", "Look at: " + ", ".join(f"[{text}]({path})" for text, path in links) + "."]
    lines += ["", "Made by", "", "```", labels.command]
    lines += [*(f"then: {command}" for command in labels.later_commands), "```"]
    commit = labels.sessions[-1].commit if labels.sessions else None
    if commit:
        lines += [f"at commit `{commit}`. The space as it was, the table and the pictures: *Artifacts*."]
    return "\n".join(lines)


def _front_lines(
    summary: StudySummary, run_ids: Mapping[str, str], experiment_id: str, rows: int
) -> list[str]:
    front = summary.study.front
    shared = shared_params(front)
    has_test = any(known(trial.test_score) is not None for trial in front)
    titles = [
        "trial",
        METRICS[summary.study.metric],
        *(["test"] if has_test else []),
        "peak MiB",
        "slowdown",
        "configuration",
    ]
    lines = ["| " + " | ".join(titles) + " |", "|" + " --- |" * len(titles)]
    for trial in front[-rows:]:
        cells = [trial.label, accuracy_text(trial)]
        if trial.name in run_ids:
            cells[0] = f"[{trial.label}](#/experiments/{experiment_id}/runs/{run_ids[trial.name]})"
        if has_test:
            cells.append(test_text(trial) or "")
        own = {key: value for key, value in trial.params.items() if key not in shared}
        cells += [f"{trial.peak_memory_mib:.1f}", slowdown_text(trial), describe(own)]
        lines.append("| " + " | ".join(cells) + " |")
    if shared:
        lines += ["", f"All have {describe(shared)}."]
    return lines
