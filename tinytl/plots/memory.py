"""The memory of methods, norms and engines, as a figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from tinytl.plots.style import GRID_ALPHA, save_figure

ENGINE_COLORS = {"stock": "#b45309", "lean": "#0b5394"}


def plot_memory(rows: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Draws the rows of `memory_table.all_rows` to a PNG or SVG: one panel per norm, one line per method.

    Filled marks: the whole batch; hollow: the smallest micro-batch; a bar: measured, if it was; a cross:
    the paper's formula.
    """
    norms = list(dict.fromkeys(row["norm"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    largest = max(row["micro_batch_size"] for row in rows)
    figure = Figure(figsize=(3.4 * len(norms), 0.42 * len(methods) + 1.8), layout="constrained")
    panels = figure.subplots(1, len(norms), sharey=True, sharex=True, squeeze=False)[0]
    for axes, norm in zip(panels, norms, strict=True):
        for row in rows:
            if row["norm"] != norm:
                continue
            y = methods.index(row["method"])
            color = ENGINE_COLORS[row["engine"]]
            whole = row["micro_batch_size"] == largest
            axes.scatter(
                row["predicted_peak_mib"],
                y,
                s=42,
                marker="s" if row["engine"] == "stock" else "o",
                facecolor=color if whole else "white",
                edgecolor=color,
                zorder=3,
            )
            if "measured_peak_mib" in row:
                axes.scatter(row["measured_peak_mib"], y, s=90, marker="|", color="black", zorder=4)
            axes.scatter(row["paper_mb"] * 1e6 / 2**20, y, s=26, marker="x", color="0.35", zorder=2)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks(range(len(methods)), methods)
        axes.set_title(norm, fontsize=10)
        axes.grid(alpha=GRID_ALPHA)
    panels[0].set_ylim(len(methods) - 0.5, -0.5)
    panels[len(norms) // 2].set_xlabel("predicted peak of a training step, MiB (log scale)", fontsize=9)
    figure.suptitle(title.partition(";")[0], x=0.01, ha="left", fontsize=10)
    figure.legend(handles=_legend(rows, largest), loc="outside lower center", ncols=5, fontsize=8)
    save_figure(figure, path)


def _legend(rows: Sequence[Mapping[str, Any]], largest: int) -> list[Line2D]:
    kinds = dict.fromkeys((row["engine"], row["micro_batch_size"]) for row in rows)
    handles = []
    for engine, micro in kinds:
        color = ENGINE_COLORS[engine]
        handles.append(
            Line2D(
                [],
                [],
                linestyle="",
                marker="s" if engine == "stock" else "o",
                markeredgecolor=color,
                markerfacecolor=color if micro == largest else "white",
                label=f"{engine}, micro-batch {micro}",
            )
        )
    if "measured_peak_mib" in rows[0]:
        handles.append(Line2D([], [], linestyle="", marker="|", color="black", label="measured"))
    handles.append(Line2D([], [], linestyle="", marker="x", color="0.35", label="the paper's formula"))
    return handles
