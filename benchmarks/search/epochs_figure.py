"""The figure of what each search has found, by epochs trained."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tinytl.plots.style import GRID_ALPHA, line_style, save_figure


def plot_search_epochs(result: dict[str, Any], path: Path) -> None:
    """Draws the median hypervolume of each search, and the quartiles of ours."""
    settings = result["settings"]
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.subplots()
    shown = [row for row in result["rows"] if not row["ablation"]]
    lowest = 1.0
    for turn, row in enumerate(shown):
        style = line_style(turn)
        epochs = row["curve"]["epochs"]
        low, middle, high = zip(*row["curve"]["quartiles"], strict=True)
        if row["search"] == "ours":
            axes.fill_between(epochs, low, high, color=style.color, alpha=0.15, linewidth=0, step="post")
        axes.plot(
            epochs,
            middle,
            drawstyle="steps-post",
            color=style.color,
            dashes=style.dashes,
            marker=style.marker,
            markevery=(turn * 2, 12),
            markersize=5,
            label=row["search"],
        )
        lowest = min(lowest, middle[len(middle) // 8])
    goal = settings["goal_of_table"][1]
    axes.axhline(goal, color="black", linewidth=0.8, label="goal: stock after its whole budget")
    axes.set_ylim(lowest - 0.02, 1.003)
    axes.set_xlim(0, settings["budget_epochs"])
    axes.set_xlabel("epochs trained, all trials together")
    axes.set_ylabel("hypervolume, everything trained = 1")
    axes.grid(alpha=GRID_ALPHA)
    axes.legend(loc="lower right", fontsize=9)
    axes.set_title(
        f"{settings['configurations']} configurations on digits, median of {settings['seeds']} seeds, "
        f"{settings['workers']} workers",
        fontsize=10,
        loc="left",
    )
    save_figure(figure, path)
