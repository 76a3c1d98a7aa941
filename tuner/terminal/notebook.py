"""A notebook in place of a terminal: whether there is one, and what it shows. IPython is never imported."""

import html
import os
import sys
from pathlib import Path
from typing import Any

PAGE_HEIGHT_PX = 720


def in_notebook() -> bool:
    """Whether this process runs a notebook's cells: Jupyter, VS Code, Colab. A plain `ipython` does not."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def display(text: str, html_text: str, display_id: str | None = None, *, update: bool = False) -> None:
    """Shows something in the cell that runs, as text and as HTML.

    `display_id` names it; with `update`, what has that name is replaced.
    """
    bundle = {"text/plain": text, "text/html": html_text}
    named: dict[str, Any] = {} if display_id is None else {"display_id": display_id, "update": update}
    sys.modules["IPython"].display.display(bundle, raw=True, **named)


def show_page(path: Path) -> None:
    """Shows an HTML file in the cell that runs, below a link to it.

    The notebook's server sees files below the folder in which it was started, so the address is relative to
    the working directory.
    """
    address = html.escape(os.path.relpath(path).replace(os.sep, "/"), quote=True)
    frame = f'<iframe src="{address}" width="100%" height="{PAGE_HEIGHT_PX}" style="border:0"></iframe>'
    display(f"Report: {path}", f'<a href="{address}" target="_blank">{address}</a>{frame}')
