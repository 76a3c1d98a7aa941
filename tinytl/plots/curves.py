"""Top-1 accuracy and loss by epoch, of one run or several."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tinytl.plots.run_label import run_labels, shared_title
from tinytl.plots.style import GRID_ALPHA, MUTED, LineStyle, line_style, plain_text
from tinytl.plural import counted
from tinytl.runs.record import RunRecord

MOST_NAMED = 8
"""Number of runs that a reader can distinguish in one figure. Of more, the most accurate have colours; the
rest is grey."""
MOST_MARKS = 15
"""Number of epochs up to which each has a mark."""
KEYS = {
    ("top-1 accuracy", "training"): "train_accuracy_top1",
    ("top-1 accuracy", "validation"): "accuracy_top1",
    ("loss", "training"): "loss",
    ("loss", "validation"): "val_loss",
}
LEAST_ACCURACY_SPAN = 0.1
"""Least height of the accuracy axis, so that noise does not look like a trend."""
CHARACTERS_A_ROW = 130


def plot_curves(runs: Sequence[RunRecord]) -> Figure:
    """Returns the figure of `runs` (at least one): one column per measure, training above validation.

    A single run has training and validation in the same panel. Values that are not finite are gaps, and the
    legend names them.
    """
    return _plot_one(runs[0]) if len(runs) == 1 else _plot_several(runs)


def best_first(runs: Sequence[RunRecord]) -> list[int]:
    """Returns the indices of `runs` by their last validation accuracy, the best first; unknown ones last."""
    last = [run.series(KEYS["top-1 accuracy", "validation"])[-1] for run in runs]
    return sorted(range(len(runs)), key=lambda i: (math.isnan(last[i]), -last[i]))


def _plot_one(run: RunRecord) -> Figure:
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True)
    handles = []
    for turn, split in enumerate(("training", "validation")):
        style = line_style(turn)
        for axes, measure in zip(panels, ("top-1 accuracy", "loss"), strict=True):
            _draw_line(axes, run, KEYS[measure, split], style)
        handles.append(_handle(split + _not_finite(run, (KEYS["loss", split],)), style))
    for axes, measure in zip(panels, ("top-1 accuracy", "loss"), strict=True):
        axes.set_xlabel("epoch")
        _finish_axes(axes, measure, [run])
    figure.suptitle(plain_text(shared_title([run.config]) or run.folder.name), x=0.01, ha="left", fontsize=10)
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9)
    return figure


def _plot_several(runs: Sequence[RunRecord]) -> Figure:
    labels = run_labels(runs)
    ranked = best_first(runs)
    named = sorted(ranked[:MOST_NAMED]) if len(runs) > MOST_NAMED else list(range(len(runs)))
    others = [i for i in range(len(runs)) if i not in named]
    handles = [
        _handle(
            labels[i] + _not_finite(runs[i], (KEYS["loss", "training"], KEYS["loss", "validation"])),
            line_style(turn),
        )
        for turn, i in enumerate(named)
    ]
    if others:
        handles.append(
            Line2D([], [], color=MUTED, linewidth=0.8, label=counted(len(others), "less accurate run"))
        )
    longest = max(len(str(handle.get_label())) for handle in handles) + 8
    ncols = max(1, min(len(handles), CHARACTERS_A_ROW // longest))
    rows = -(-len(handles) // ncols)
    figure = Figure(figsize=(9, 6.0 + 0.19 * rows), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey="col", squeeze=False)
    for row, split in zip(panels, ("training", "validation"), strict=True):
        for axes, measure in zip(row, ("top-1 accuracy", "loss"), strict=True):
            for i in others:
                _draw_line(axes, runs[i], KEYS[measure, split], None)
            for turn, i in enumerate(named):
                _draw_line(axes, runs[i], KEYS[measure, split], line_style(turn))
            _finish_axes(axes, measure, runs)
            axes.set_title(split, loc="left", fontsize=9)
    for axes in panels[1]:
        axes.set_xlabel("epoch")
    title = f"{len(runs)} runs"
    shared = shared_title([run.config for run in runs])
    figure.suptitle(plain_text(f"{title}: {shared}" if shared else title), x=0.01, ha="left", fontsize=10)
    figure.legend(
        handles=handles, loc="outside lower left", ncols=ncols, fontsize=8, handlelength=4, frameon=False
    )
    return figure


def _draw_line(axes: Axes, run: RunRecord, key: str, style: LineStyle | None) -> None:
    """Draws one metric of a run; without a style, thin and grey behind the others."""
    x, y = run.epoch_numbers, run.series(key)
    if style is None:
        # A single epoch has no visible line.
        axes.plot(x, y, color=MUTED, linewidth=0.8, marker="." if len(x) == 1 else "", zorder=1)
        return
    marks = style.marker if len(x) <= MOST_MARKS else ""
    (line,) = axes.plot(x, y, color=style.color, linewidth=1.5, marker=marks, markersize=4.5, zorder=3)
    if style.dashes:
        line.set_dashes(style.dashes)
    if not marks:
        line.set_marker(style.marker)
        line.set_markersize(4.5)
        line.set_markevery(-(-len(x) // 10))


def _finish_axes(axes: Axes, measure: str, runs: Sequence[RunRecord]) -> None:
    last = max(run.epoch_numbers[-1] for run in runs)
    first = min(run.epoch_numbers[0] for run in runs)
    margin = 0.5 if first == last else 0.03 * (last - first)
    axes.set_xlim(first - margin, last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes.set_ylabel(f"{measure} (fraction)" if "accuracy" in measure else f"{measure} (cross-entropy)")
    axes.grid(alpha=GRID_ALPHA)
    values = [v for (m, _), key in KEYS.items() if m == measure for run in runs for v in run.series(key)]
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", color="0.4")
        return
    span = max(finite) - min(finite)
    if "accuracy" in measure:
        wide = max(span, LEAST_ACCURACY_SPAN)
        middle = (max(finite) + min(finite)) / 2
        axes.set_ylim(max(-0.02, middle - 0.55 * wide), min(1.02, middle + 0.55 * wide))


def _handle(label: str, style: LineStyle) -> Line2D:
    handle = Line2D(
        [], [], color=style.color, marker=style.marker, markersize=4.5, linewidth=1.5, label=plain_text(label)
    )
    if style.dashes:
        handle.set_dashes(style.dashes)
    return handle


def _not_finite(run: RunRecord, keys: Sequence[str]) -> str:
    """Returns the legend's note on losses that are not finite."""
    for turn, epoch in enumerate(run.epoch_numbers):
        row = run.epochs[turn]
        if any(key in row and math.isnan(run.series(key)[turn]) for key in keys):
            return f" (loss not finite in epoch {epoch})"
    return ""
