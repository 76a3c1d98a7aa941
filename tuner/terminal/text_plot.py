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
    # Once, not for each dot: a view is drawn again and again, of thousands of results.
    accuracies = _span([r.score for r in results])
    memories = _span([r.peak_memory_mib for r in results])
    columns, rows = width - 6, height - 1
    cells: dict[tuple[int, int], str] = {}
    front = {r.name for r in pareto_front(results)}
    for result in sorted(results, key=lambda r: r.name in front):  # the front on top
        column = _place(result.peak_memory_mib, memories, columns)
        row = rows - 1 - _place(result.score, accuracies, rows)
        cells[row, column] = front_mark if result.name in front else mark
    plot = Text(no_wrap=True, overflow="crop")
    for row in range(rows):
        label = {0: f"{accuracies[1]:.3f}", rows - 1: f"{accuracies[0]:.3f}"}.get(row, "")
        plot.append(f"{label:>5} ", "dim")
        for column in range(columns):
            cell = cells.get((row, column), " ")
            plot.append(cell, "bold green" if cell == front_mark else "dim")
        plot.append("\n")
    least, largest = f"{memories[0]:.1f}", f"{memories[1]:.1f} MiB"
    plot.append(" " * 6 + least + largest.rjust(columns - len(least)), "dim")
    return plot


def _span(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _place(value: float, span: tuple[float, float], cells: int) -> int:
    low, high = span
    return 0 if high == low else round((value - low) / (high - low) * (cells - 1))
