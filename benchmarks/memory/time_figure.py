"""The figure of memory against time: one optimiser step of 8 samples, taken in several ways."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from tinytl.plots.style import GRID_ALPHA, save_figure

METHODS = ("TinyTL-B", "TinyTL-L+B", "FT-Full")
POINTS = {
    ("stock", True): ("stock", "s", "#b45309", True, "above"),
    ("stock", False): ("stock, one at a time", "s", "#b45309", False, "above"),
    ("fast", True): ("fast", "o", "#0b5394", True, "above"),
    ("fast", False): ("fast, one at a time", "o", "#0b5394", False, "below"),
    ("depthwise", True): ("depthwise", "^", "#0b5394", True, "below"),
    ("all", True): ("all", "D", "#0b5394", True, "above"),
}
"""Way and whether the whole batch is in memory: label, marker, colour, filled, and the label's side. Points
may coincide: without anything to recompute, `fast` and `depthwise` are the same."""


def plot_memory_time(result: dict[str, Any], path: Path) -> None:
    """Draws the rows of `benchmarks.memory.engine` with frozen batch norm to `path`, one panel per method."""
    rows = [r for r in result["rows"] if r["norm"] == "frozen_bn" and "step_ratio_whole" in r]
    shown = [method for method in METHODS if any(r["method"] == method for r in rows)]
    if not shown:
        return
    figure = Figure(figsize=(4.2 * len(shown), 4.0), layout="constrained")
    panels = figure.subplots(1, len(shown), sharey=True, sharex=True, squeeze=False)[0]
    whole = result["batch_size"]
    of_panel = {
        method: {
            key: (row["measured_mib"], row["step_ratio_whole"])
            for row in rows
            if row["method"] == method and (key := (row["way"], row["micro_batch_size"] == whole)) in POINTS
        }
        for method in shown
    }
    every = [point for points in of_panel.values() for point in points.values()]
    panels[0].set_ylim(0, 1.15 * max(time for _, time in every))
    panels[0].set_xlim(0.42 * min(mib for mib, _ in every), 1.7 * max(mib for mib, _ in every))
    for axes, (method, points) in zip(panels, of_panel.items(), strict=True):
        _draw(axes, points)
        axes.set_title(method, fontsize=10)
    panels[0].set_ylabel("time of a step, faster stock format = 1", fontsize=9)
    panels[len(shown) // 2].set_xlabel("measured peak of a step, MiB (log scale)", fontsize=9)
    title = f"{result['backbone']}, frozen_bn, batch {whole}, {result['resolution']} px, one CPU thread"
    figure.suptitle(f"{title}; squares: stock, the rest: lean", x=0.01, ha="left", fontsize=10)
    save_figure(figure, path)


def _draw(axes: Axes, points: dict[tuple[str, bool], tuple[float, float]]) -> None:
    for key, point in points.items():
        label, marker, color, filled, side = POINTS[key]
        face = color if filled else "white"
        axes.scatter(*point, s=42, marker=marker, facecolor=face, edgecolor=color, zorder=3)
        up = 1 if side == "above" else -1
        place = {"xytext": (0, 7 * up), "textcoords": "offset points", "ha": "center"}
        axes.annotate(label, point, **place, va="bottom" if up > 0 else "top", fontsize=8, color="0.15")
    axes.axhline(1, color="0.6", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=GRID_ALPHA)
