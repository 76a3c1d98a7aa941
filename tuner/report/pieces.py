"""Pieces of HTML for a notebook or a small page: a picture inside the page, a table of text."""

import base64
import html
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE_PX = 640
"""Width of a picture, in CSS pixels."""


@contextmanager
def own_look() -> Iterator[None]:
    """Draws in the project's look within the block, and gives matplotlib's settings back at its end."""
    import matplotlib

    with matplotlib.rc_context():
        from tinytl.plots.style import set_look

        set_look()
        yield


def picture_html(draw: "Callable[[], Figure]", alt: str) -> str:
    """Returns the figure that `draw` makes as an image inside the page; `draw` has the project's look."""
    with own_look():
        from tinytl.plots.style import figure_bytes

        data = base64.b64encode(figure_bytes(draw())).decode()
    style = f"max-width:100%;width:{PICTURE_PX}px;background:#fff"
    return f'<img alt="{html.escape(alt)}" style="{style}" src="data:image/png;base64,{data}">'


def table_html(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table, every cell escaped."""
    head = "".join(f"<th>{html.escape(title)}</th>" for title in titles)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div style="overflow-x:auto">{table}</div>'  # a phone is narrow
