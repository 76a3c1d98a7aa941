"""Pictures of the compared variants: accuracy against memory, and curves by epoch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tinytl.config.names import METHODS
from tinytl.plots.style import GRID_ALPHA, MUTED, line_style, save_figure, set_memory_axis

CURVES = {"val_curve": "validation top-1", "loss_curve": "training loss"}

FILLS = {"frozen_bn": "full", "batch_norm": "none", "group_norm": "bottom"}
"""How a mark is filled, by norm."""
IN_FEWER_BITS = ("frozen weights", "moments")
"""How the names of variants end that store something in fewer bits."""
SMALL, LARGE = 4, 7
"""Sizes of marks in points: with what is stored in fewer bits, and without."""


def plot_comparison(result: dict[str, Any], names: Mapping[str, str], path: Path) -> None:
    """Draws accuracy, with its standard error, against the least memory; a panel for each set and network.

    `names`: what data sets are called, in order.
    """
    backbones = sorted({row["backbone"] for row in result["rows"]})
    figure = Figure(figsize=(10, 4.2 * len(names) + 1), layout="constrained")
    panels = figure.subplots(len(names), len(backbones), squeeze=False, sharey="row")
    for line, (dataset, called) in zip(panels, names.items(), strict=True):
        for axes, backbone in zip(line, backbones, strict=True):
            rows = [r for r in result["rows"] if (r["dataset"], r["backbone"]) == (dataset, backbone)]
            axes.set_title(f"{called}, {backbone}", fontsize=10)
            if rows:
                _draw_points(axes, rows)
    methods = [m for m in METHODS if any(row["variant"].split(",")[0] == m for row in result["rows"])]
    handles = [
        Line2D([], [], color=style.color, marker=style.marker, linestyle="", label=method)
        for method, style in ((m, line_style(METHODS.index(m))) for m in methods)
    ]
    handles += [
        Line2D([], [], color="black", marker="o", markersize=LARGE, linestyle="", fillstyle=fill, label=norm)
        for norm, fill in FILLS.items()
    ]
    handles.append(
        Line2D([], [], color="black", marker="o", linestyle="", markersize=SMALL, label="in fewer bits")
    )
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=9)
    save_figure(figure, path)


def _draw_points(axes: Axes, rows: list[dict[str, Any]]) -> None:
    front: list[tuple[float, float]] = []
    for row in sorted(rows, key=lambda row: (row["least_mib"], -row["accuracy_top1_mean"])):
        method, norm, *_ = row["variant"].split(", ")
        in_fewer_bits = row["variant"].endswith(IN_FEWER_BITS)
        style = line_style(METHODS.index(method))
        accuracy = 100 * row["accuracy_top1_mean"]
        axes.errorbar(
            row["least_mib"],
            accuracy,
            yerr=100 * (row["standard_error"] or 0.0),
            color=style.color,
            marker=style.marker,
            fillstyle=FILLS[norm],
            markersize=SMALL if in_fewer_bits else LARGE,
            linewidth=1,
        )
        if not front or accuracy > front[-1][1]:
            front.append((row["least_mib"], accuracy))
    axes.step(*zip(*front, strict=True), where="post", color=MUTED, linewidth=1, zorder=0)
    set_memory_axis(axes, [row["least_mib"] for row in rows], "least memory of a step")
    axes.set_ylabel("top-1 on test images, %")
    axes.grid(alpha=GRID_ALPHA)


def plot_curves(result: dict[str, Any], path: Path) -> None:
    """Draws each variant at its tuned rate: the mean of the seeds, and a band from lowest to highest."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    panels = figure.subplots(1, len(CURVES))
    for turn, row in enumerate(result["rows"]):
        style = line_style(turn)
        for axes, key in zip(panels, CURVES, strict=True):
            curves = np.array([run[key] for run in row["runs"]])
            epochs = np.arange(1, curves.shape[1] + 1)
            label = f"{row['variant']} (lr {row['base_lr']:.1g})"
            axes.fill_between(
                epochs, curves.min(0), curves.max(0), color=style.color, alpha=0.15, linewidth=0
            )
            axes.plot(
                epochs,
                curves.mean(0),
                color=style.color,
                dashes=style.dashes,
                marker=style.marker,
                markersize=5,
                label=label,
            )
    for axes, title in zip(panels, CURVES.values(), strict=True):
        axes.set_ylabel(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=GRID_ALPHA)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9)
    figure.suptitle(f"{result['rows'][0]['backbone']}, {len(result['rows'][0]['runs'])} seeds", fontsize=10)
    save_figure(figure, path)
