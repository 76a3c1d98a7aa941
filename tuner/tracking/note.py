"""The note that MLflow shows first of a study: its front, the best, where to look, how to make it again."""

from collections.abc import Mapping

from tuner.findings.text import describe, over_seeds, shared_params
from tuner.tracking.summary import StudySummary
from tuner.tracking.view import charts_path, front_path, view_path

LONGEST = 8000
"""Characters that a tag holds."""
ROWS_SHOWN = (20, 10, 5, 2)
"""Of the front, the most accurate: as many as a tag has room for."""


def note(summary: StudySummary, run_ids: Mapping[str, str], experiment_id: str) -> str:
    """Returns the study in Markdown: its front, the best, where to look, and how to make it again.

    `run_ids`: of the trials' runs, by name.
    """
    texts = (_note(summary, run_ids, experiment_id, rows) for rows in ROWS_SHOWN)
    return next((text for text in texts if len(text) <= LONGEST), summary.title)


def _note(summary: StudySummary, run_ids: Mapping[str, str], experiment_id: str, rows: int) -> str:
    findings, labels = summary.findings, summary.labels
    front = findings.status.pareto[-rows:]
    searched = f"{findings.status.requested} trials of space `{labels.identity['space']}`"
    lines = [f"**{summary.title}**: {searched}."]
    if front:
        lines += ["", *_front_lines(summary, run_ids, experiment_id, rows)]
    if findings.best is not None:
        under = "" if findings.budget_mib is None else f" under {findings.budget_mib:g} MiB"
        lines += ["", f"**Best{under}: {findings.best.trial}**, {describe(findings.best.params)}."]
    ids = [run_ids[result.trial] for result in front if result.trial in run_ids]
    links = [("trials by accuracy", view_path(labels.name, experiment_id))]
    links += [("charts", charts_path(labels.name, experiment_id))]
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
    findings = summary.findings
    front = findings.status.pareto
    shared = shared_params(front)
    has_test = bool(findings.test_accuracy)
    titles = ["trial", "accuracy", *(["test"] if has_test else []), "peak MiB", "configuration"]
    lines = ["| " + " | ".join(titles) + " |", "|" + " --- |" * len(titles)]
    for result in front[-rows:]:
        again = findings.confirmed.get(result.trial)
        cells = [result.trial, f"{result.accuracy_top1:.3f}" if again is None else over_seeds(again)]
        if result.trial in run_ids:
            cells[0] = f"[{result.trial}](#/experiments/{experiment_id}/runs/{run_ids[result.trial]})"
        if has_test:
            value = findings.test_accuracy.get(result.trial)
            cells.append("" if value is None else f"{value:.3f}")
        own = {key: value for key, value in result.params.items() if key not in shared}
        cells += [f"{result.peak_memory_mib:.1f}", describe(own)]
        lines.append("| " + " | ".join(cells) + " |")
    if shared:
        lines += ["", f"All have {describe(shared)}."]
    return lines
