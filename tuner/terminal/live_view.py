"""The live view of a study on a terminal: what each trial trains, the front so far, when it will end."""

import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol, TypeAlias

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tinytl.config.names import METRICS
from tinytl.plural import rough_span
from tuner.record.trials import Trial, metric_of_row
from tuner.terminal.board import RunningTrial, StudyBoard
from tuner.terminal.lines import TrialLines
from tuner.terminal.text_plot import text_plot

REFRESHES_PER_S = 2
PLOT_WIDTH = 40
LEAST_BAR = 8
BAR = "cyan"
LEAST_PLOT = 3
"""Results that make a plot."""
STATES = {"complete": "green", "running": "", "pruned": "yellow", "failed": "red", "infeasible": "dim"}
"""In the order in which they are shown, with their colours."""


Drawing: TypeAlias = Callable[[], RenderableType]
"""Returns the view as it is now."""


class Screen(Protocol):
    """Where a view is drawn again and again, by a thread of its own."""

    def start(self) -> None:
        """Draws from now on."""

    def stop(self) -> None:
        """Removes the view."""


class LiveView(TrialLines):
    """Lines for trials that end, above a view that its own thread redraws twice per second.

    Ray's calls only record what happened, so drawing never delays them. The view needs 2 % of a core
    (eight workers, a front of twelve, 120 x 40; process time over 20 s).
    """

    def __init__(
        self,
        console: Console,
        board: StudyBoard,
        refused: Callable[[], int],
        screen: Callable[[Drawing], Screen] | None = None,
    ) -> None:
        """`refused`: how many configurations this driver has found to exceed the budget.

        `screen`: makes what draws the view; default: the terminal of `console`.
        """
        super().__init__(console, board.ended, board.requested, board.metric)
        self.board = board
        self.refused = refused
        self._lock = threading.RLock()  # Ctrl-C may call `stopping` in the middle of whatever runs
        self._screen: Screen = self._terminal() if screen is None else screen(self._draw)

    def __enter__(self) -> "LiveView":
        """Draws from now on; what is printed meanwhile appears above the view."""
        self._screen.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes the view; the lines above it stay."""
        self._screen.stop()

    def trial_started(
        self, name: str, params: Mapping[str, Any], searched: Mapping[str, Any], source: str | None
    ) -> None:
        """Shows the trial as one that runs."""
        super().trial_started(name, params, searched, source)
        with self._lock:
            self.board.trial_started(name)

    def epoch_ended(self, name: str, row: Mapping[str, Any]) -> None:
        """Shows how far it is."""
        super().epoch_ended(name, row)
        with self._lock:
            self.board.epoch_ended(name, row)

    def trial_ended(self, name: str, state: str, reason: str | None) -> None:
        """Counts the trial, and prints its line."""
        with self._lock:
            self.board.trial_ended(name, state)
        super().trial_ended(name, state, reason)

    def phase(self, text: str) -> None:
        """Shows what happens beside the search."""
        with self._lock:
            self.board.phase = text

    def stopping(self) -> None:
        """Shows what the first Ctrl-C does."""
        self.phase("stopping")
        super().stopping()

    def _terminal(self) -> Live:
        return Live(
            console=self.console,
            get_renderable=self._draw,
            refresh_per_second=REFRESHES_PER_S,
            transient=True,
            vertical_overflow="crop",
        )

    def _draw(self) -> RenderableType:
        with self._lock:
            # One line stays free for the cursor.
            return draw(self.board, self.refused(), self.console.options, self.console.height - 1)


def draw(board: StudyBoard, refused: int, options: ConsoleOptions, height: int) -> Constrain:
    """Returns the view in at most `height` lines of the console's width."""
    # The last column stays free: some terminals wrap once it is written.
    width = options.max_width - 1
    parts: list[RenderableType] = [_bar(board, width), _counts(board, refused, width)]
    front = board.front
    room = height - len(parts) - 4  # two headings, two empty lines before them
    if room >= 2:
        for_front = min(len(front), room // 2)
        running = list(board.running.values())
        for_running = min(len(running), room - for_front)
        for_front = min(len(front), room - for_running)
        if running:
            parts += ["", _running_table(board, running, for_running, width)]
        if front:
            parts += ["", _front(board, front, for_front, room - for_running, width, options.ascii_only)]
    return Constrain(Group(*parts), width)


def _bar(board: StudyBoard, width: int) -> RenderableType:
    figures = f"{board.ended}/{board.requested} trials  {clock_text(board.elapsed_s)}"
    left_s = board.left_s
    if board.phase:
        figures += f"  {board.phase}"
    elif left_s is not None:
        figures += f"  about {rough_span(left_s)} left"
    text = Text(figures, no_wrap=True, overflow="crop")
    bar_width = min(40, width - len(figures) - 1)
    if bar_width < LEAST_BAR:
        return text
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_row(
        ProgressBar(total=board.requested, completed=board.ended, width=bar_width, complete_style=BAR), text
    )
    return grid


def _counts(board: StudyBoard, refused: int, width: int) -> Text:
    counts = board.counts | {"running": len(board.running)}
    counts["infeasible"] = counts.get("infeasible", 0) + refused
    pieces = [(f"{counts[s]} {s}", style) for s, style in STATES.items() if counts.get(s)]
    if board.epochs_per_s is not None:
        pieces.append((_rate(board.epochs_per_s, "epoch"), ""))
    if board.images_per_s is not None:
        pieces.append((f"{board.images_per_s:.0f} images/s", ""))
    line = Text(no_wrap=True, overflow="crop")
    for index, (text, style) in enumerate(pieces):
        text = (", " if index else "") + text
        if len(line) + len(text) > width:
            break
        line.append(text, style)
    return line if pieces else Text("starting", "dim")


def _running_table(board: StudyBoard, running: list[RunningTrial], shown: int, width: int) -> Table:
    wide = width >= 72
    words = METRICS[board.metric]
    table = _plain_table("running", "epoch", *(["", words, "MiB"] if wide else [words]), "time")
    for trial in _cut(running, shown):
        done = Text(f"{trial.epoch}/{board.epochs}", no_wrap=True)
        accuracy = f"{trial.row[metric_of_row(trial.row)]:.3f}" if trial.row else "-"
        memory = f"{trial.row['peak_memory_mib']:.1f}" if trial.row else "-"
        bar = ProgressBar(total=board.epochs, completed=trial.epoch, width=12, complete_style=BAR)
        time_text = clock_text(board.clock() - trial.since_s)
        table.add_row(trial.name, done, *([bar, accuracy, memory] if wide else [accuracy]), time_text)
    _say_more(table, len(running), shown)
    return table


def _front(
    board: StudyBoard, front: list[Trial], shown: int, room: int, width: int, ascii_only: bool
) -> RenderableType:
    table = _plain_table("front", front[0].metric_words, "MiB", "")
    under = "best" if board.budget_mib is None else f"best under {board.budget_mib:g} MiB"
    best = board.best
    rows = _cut(front[::-1], shown)  # the most accurate ones, if not all fit
    if best is not None and best not in rows:
        rows[-1:] = [best]
    for result in reversed(rows):
        is_best = best is not None and result.name == best.name
        table.add_row(
            result.name,
            f"{result.score:.3f}",
            f"{result.peak_memory_mib:.1f}",
            under if is_best else "",
            style="bold" if is_best else None,
        )
    _say_more(table, len(front), shown)
    names = max(len(result.name) for result in front)
    if width < names + 40 + PLOT_WIDTH or room < 4 or len(board.results) < LEAST_PLOT:
        return table
    beside = Table.grid(padding=(0, 3, 0, 0))
    beside.add_row(table, text_plot(board.results, PLOT_WIDTH, min(room + 1, 8), ascii_only))
    return beside


def _plain_table(*titles: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for index, title in enumerate(titles):
        left = index == 0 or not title
        table.add_column(title, justify="left" if left else "right", no_wrap=True, overflow="crop")
    return table


def _cut(rows: list[Any], shown: int) -> list[Any]:
    """Returns the rows that are shown, with room for a line that counts the others."""
    return rows if len(rows) <= shown else rows[: shown - 1]


def _say_more(table: Table, rows: int, shown: int) -> None:
    if rows > shown:
        table.add_row(f"and {rows - shown + 1} more", style="dim")


def _rate(per_s: float, unit: str) -> str:
    return f"{per_s:.1f} {unit}s/s" if per_s >= 1 else f"{per_s * 60:.1f} {unit}s/min"


def clock_text(seconds: float) -> str:
    """Returns a span as m:ss, or h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
