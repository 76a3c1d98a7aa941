"""Curves of the compared variants: validation accuracy and training loss by epoch."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tinytl.plots.style import GRID_ALPHA, line_style, save_figure

CURVES = {"val_curve": "validation top-1", "loss_curve": "training loss"}


def plot_variants(result: dict[str, Any], path: Path) -> None:
    """Draws each variant at its tuned rate: the mean of the seeds, and a band from lowest to highest."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    panels = figure.subplots(1, len(CURVES))
    for turn, row in enumerate(result["rows"]):
        style = line_style(turn)
        for axes, key in zip(panels, CURVES, strict=True):
            curves = np.array([run[key] for run in row["runs"]])
            epochs = np.arange(1, curves.shape[1] + 1)
            label = f"{row['variant']} (lr {row['base_lr']:g})"
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
    figure.suptitle(f"{result['rows'][0]['backbone']}, {len(result['settings']['seeds'])} seeds", fontsize=10)
    save_figure(figure, path)
