"""A comparison of studies as files: a page with the fronts in one picture, the picture, and tables."""

import csv
import html
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from tinytl.files import naming_the_file, write_whole
from tuner.findings.compare import Comparison, cells, lines_of
from tuner.report.pieces import own_look, picture_html, table_html

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, PICTURE, TABLE, DATA = "comparison.html", "fronts.png", "comparison.csv", "comparison.json"
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}th,td{padding:.2rem .8rem .2rem 0;text-align:left}"
)


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Writes page, picture and tables to a folder, which is made; returns the files.

    Raises:
        ConfigError: if they cannot be written.
    """
    names = ", ".join(compared.label for compared in comparison.studies)
    title = html.escape(names)
    with naming_the_file(folder):
        folder.mkdir(parents=True, exist_ok=True)
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<h1>{title}</h1>{comparison_html(comparison)}</html>\n"
    )
    write_whole(folder / PAGE, page)
    with own_look():
        from tinytl.plots.style import save_figure

        save_figure(_figure(comparison), folder / PICTURE)
    write_whole(folder / TABLE, _as_csv(comparison))
    write_whole(folder / DATA, json.dumps(comparison.to_json(), indent=2) + "\n")
    return [folder / name for name in (PAGE, PICTURE, TABLE, DATA)]


def comparison_html(comparison: Comparison) -> str:
    """Returns what differs, the fronts in one picture, and the table. All text of the studies is escaped."""
    lines = "".join(f"<div>{html.escape(line)}</div>" for line in lines_of(comparison))
    picture = picture_html(lambda: _figure(comparison), "fronts")
    return f"<div>{lines}{picture}{table_html(*cells(comparison))}</div>"


def _figure(comparison: Comparison) -> "Figure":
    from tuner.pictures.still import fronts_figure

    return fronts_figure({compared.label: compared.study.complete for compared in comparison.studies})


def _as_csv(comparison: Comparison) -> str:
    rows, out = comparison.rows(), io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
