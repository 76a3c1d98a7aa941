"""The live view in a notebook: the cell's output is replaced every second. No widgets are needed."""

import html
import io
import threading
import uuid

from rich.console import Console

from tuner.terminal.live_view import Drawing
from tuner.terminal.notebook import display

REDRAW_S = 1.0
WIDTH, HEIGHT = 100, 40
"""Characters of the view: a notebook does not say how many there is room for."""


def notebook_console() -> Console:
    """Returns a console that prints plain lines into the cell that runs, as wide as the view."""
    return Console(force_jupyter=False, force_terminal=False, width=WIDTH, height=HEIGHT)


class NotebookScreen:
    """Shows what `draw` returns, in one place of the cell that runs, until it is stopped."""

    def __init__(self, draw: Drawing) -> None:
        self.draw = draw
        self._id = uuid.uuid4().hex
        self._shown = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._redraw, name="notebook view", daemon=True)

    def start(self) -> None:
        """Shows the view, and redraws it every second."""
        self._show(update=False)
        self._thread.start()

    def stop(self) -> None:
        """Removes the view; the lines below it stay."""
        self._ended.set()
        self._thread.join()
        display("", "", self._id, update=True)

    def _redraw(self) -> None:
        while not self._ended.wait(REDRAW_S):
            self._show(update=True)

    def _show(self, *, update: bool) -> None:
        text = as_text(self.draw)
        if not update or text != self._shown:
            self._shown = text
            display(text, f'<pre style="line-height:1.2">{html.escape(text)}</pre>', self._id, update=update)


def as_text(draw: Drawing) -> str:
    """Returns a view as lines of text, without colours."""
    out = io.StringIO()
    Console(file=out, width=WIDTH, height=HEIGHT, color_system=None, force_jupyter=False).print(draw())
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())
