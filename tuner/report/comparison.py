"""A comparison of studies as files: a page with the fronts in one picture, the picture, and tables."""

import html
import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinytl.files import naming_the_file, write_whole
from tuner.findings.compare import Comparison, cells, lines_of
from tuner.next_commands import tuner_command, where_flags
from tuner.pictures.interactive import MEMORY_COST, TIME_COST
from tuner.pictures.several import fronts_figure
from tuner.record.trials import known
from tuner.report import facts
from tuner.report.panels import Panel, panel_of
from tuner.report.pieces import own_look, picture_html, table_html
from tuner.report.render import render
from tuner.report.tables import baseline_rows, csv_address, csv_text, figures_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, PICTURE, TABLE, DATA = "comparison.html", "fronts.png", "comparison.csv", "comparison.json"
_TEMPLATE = "comparison.html"


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Writes page, picture and tables to a folder, which is made; returns the files.

    Raises:
        ConfigError: if they cannot be written.
    """
    with naming_the_file(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / PAGE, render(_TEMPLATE, _content(comparison)))
    with own_look():
        from tinytl.plots.style import save_figure

        save_figure(_figure(comparison), folder / PICTURE)
    write_whole(folder / TABLE, csv_text(comparison.rows()))
    write_whole(folder / DATA, json.dumps(comparison.to_json(), indent=2) + "\n")
    return [folder / name for name in (PAGE, PICTURE, TABLE, DATA)]


def comparison_html(comparison: Comparison) -> str:
    """Returns what differs, the fronts in one picture, and the table, for a notebook.

    All text of the studies is escaped.
    """
    lines = "".join(f"<div>{html.escape(line)}</div>" for line in lines_of(comparison))
    picture = picture_html(lambda: _figure(comparison), "fronts")
    return f"<div>{lines}{picture}{table_html(*cells(comparison, errors=True))}</div>"


def _content(comparison: Comparison) -> dict[str, Any]:
    """Returns all that the page shows, by the names in `comparison.html`."""
    titles, rows = cells(comparison, errors=True)
    return {
        "live": None,
        "names": [compared.label for compared in comparison.studies],
        "made": facts.moment(datetime.now()),
        "differences": comparison.differences,
        "lines": lines_of(comparison)[len(comparison.differences) :],
        "fronts": _fronts(comparison),
        "titles": titles,
        "rows": rows,
        "front_rows": [
            {"study": compared.label} | figures_of(trial)
            for compared in comparison.studies
            for trial in compared.study.front
        ],
        "baselines": [
            {"study": compared.label} | row
            for compared in comparison.studies
            for row in baseline_rows(compared.study, compared.gains)
        ],
        "csv": csv_address(comparison.rows()),
        "commands": {
            compared.label: tuner_command(
                "report", compared.study.name, where=where_flags(compared.study.runs_dir)
            )
            for compared in comparison.studies
        },
    }


def _fronts(comparison: Comparison) -> list[Panel]:
    """Returns the fronts over memory, and over the time of an epoch if that is known of some trial."""
    studies = {compared.label: compared.study.complete for compared in comparison.studies}
    found = []
    for id, cost in (("front", MEMORY_COST), ("front-time", TIME_COST)):
        costs = [getattr(trial, cost.measure) for trials in studies.values() for trial in trials]
        if any(known(value) is not None for value in costs):
            alt = f"The fronts of {', '.join(studies)} against {cost.words}; the tables have the figures."
            figure = fronts_figure(studies, cost)
            found.append(panel_of(id, "", "", alt, figure.update_layout(height=None)))
    return found


def _figure(comparison: Comparison) -> "Figure":
    from tuner.pictures.still import fronts_figure

    return fronts_figure({compared.label: compared.study.complete for compared in comparison.studies})
