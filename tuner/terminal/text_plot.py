"""A small plot of accuracy against memory, in characters."""

from collections.abc import Sequence

from rich.text import Text

from tuner.record.results import pareto_front
from tuner.record.trials import Trial

MARKS = {True: ("o", "."), False: ("●", "·")}
"""The marks of the front and of what it beats, by whether only ASCII can be printed."""


def text_plot(results: Sequence[Trial], width: int, height: int, ascii_only: bool) -> Text:
    """Returns `height` lines of at most `width` characters; the upper left corner is the best place.

    The last line has the least and the largest memory; accuracies are on the left.
    """
    front_mark, mark = MARKS[ascii_only]
    accuracies = [r.accuracy_top1 for r in results]
    memories = [r.peak_memory_mib for r in results]
    columns, rows = width - 6, height - 1
    cells: dict[tuple[int, int], str] = {}
    front = {r.name for r in pareto_front(results)}
    for result in sorted(results, key=lambda r: r.name in front):  # the front on top
        column = _place(result.peak_memory_mib, memories, columns)
        row = rows - 1 - _place(result.accuracy_top1, accuracies, rows)
        cells[row, column] = front_mark if result.name in front else mark
    plot = Text(no_wrap=True, overflow="crop")
    for row in range(rows):
        label = {0: f"{max(accuracies):.3f}", rows - 1: f"{min(accuracies):.3f}"}.get(row, "")
        plot.append(f"{label:>5} ", "dim")
        for column in range(columns):
            cell = cells.get((row, column), " ")
            plot.append(cell, "bold green" if cell == front_mark else "dim")
        plot.append("\n")
    least, largest = f"{min(memories):.1f}", f"{max(memories):.1f} MiB"
    plot.append(" " * 6 + least + largest.rjust(columns - len(least)), "dim")
    return plot


def _place(value: float, among: Sequence[float], cells: int) -> int:
    low, high = min(among), max(among)
    return 0 if high == low else round((value - low) / (high - low) * (cells - 1))
