"""A study as a piece of HTML for a notebook: what was found, in a few lines, a picture and a table."""

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tinytl.config.names import METRICS
from tinytl.plural import counted
from tuner.findings.text import accuracy_text, counts_line, describe, hypervolume_line, spread, test_text
from tuner.record import schema
from tuner.record.identity import network_in_words
from tuner.record.reading import StudyReading
from tuner.record.trials import Trial, known, metric_shared
from tuner.report.pieces import picture_html, table_html

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = 12
"""Most rows of a table: of a longer front, from one end to the other."""


def study_html(study: StudyReading) -> str:
    """Returns name, counts, best and the front with its picture. All text of the study is escaped."""
    lines = [counts_line(study).partition(": ")[2]]
    volume = hypervolume_line(study)
    if study.best is not None:
        best = study.best
        under = "" if study.budget_mib is None else f" under {study.budget_mib:g} MiB"
        lines.append(
            f"Best{under}: {best.label}, {best.metric_words} {accuracy_text(best)} in "
            f"{best.peak_memory_mib:.1f} MiB ({describe(best.params)})"
        )
    lines += [] if volume is None else [volume]
    title = f"<b>{html.escape(study.name)}</b> &nbsp; {html.escape(subtitle(study))}"
    parts = [title, *(html.escape(line) for line in lines)]
    body = "".join(f"<div>{part}</div>" for part in parts)
    if study.complete:
        body += _front_picture(study) + _front_html(study.front)
    return f"<div>{body}</div>"


def subtitle(study: StudyReading) -> str:
    """Returns network, data set and length of a study, as far as they are known."""
    network = network_in_words(study.attributes)
    data = study.attributes.get(schema.DATASET, "unknown data")
    epochs = study.attributes.get(schema.EPOCHS)
    return f"{network} on {data}" + ("" if epochs is None else f", {counted(epochs, 'epoch')}")


def _front_picture(study: StudyReading) -> str:
    def draw() -> "Figure":
        from tuner.pictures.still import front_figure

        return front_figure(study.complete, "", study.budget_mib)

    return picture_html(draw, f"front of {study.name}")


def _front_html(front: Sequence[Trial]) -> str:
    titles = ["trial", METRICS[metric_shared(front)], "test", "peak MiB", "slowdown", "configuration"]
    rows = [
        [
            trial.label,
            accuracy_text(trial),
            test_text(trial) or "",
            f"{trial.peak_memory_mib:.1f}",
            _cell(trial.slowdown, ".2f"),
            describe(trial.params),
        ]
        for trial in spread(front, ROWS)
    ]
    more = len(front) - len(rows)
    return table_html(titles, rows) + (f"<div>and {more} more: <code>.front</code></div>" if more else "")


def _cell(figure: float, spec: str) -> str:
    value = known(figure)
    return "" if value is None else format(value, spec)
