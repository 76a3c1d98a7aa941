"""A configuration's memory against time, over its execution plans."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tinytl.config.plan import RECOMPUTED, Plan
from tinytl.plots.style import GRID_ALPHA, MUTED, line_style, save_figure


def plot_curve(curve: Sequence[Plan], title: str, path: Path) -> None:
    """Draws a `memory_curve` to a PNG or SVG: steps of memory over slowdown, a mark per plan.

    The mark says what is recomputed, the number beside it how many samples are in memory at a time.
    """
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    slowdowns = [plan.slowdown for plan in curve]
    axes.step(slowdowns, [plan.peak_memory_mib for plan in curve], where="post", color=MUTED, zorder=1)
    for index, (checkpoint, words) in enumerate(RECOMPUTED.items()):
        plans = [plan for plan in curve if plan.checkpoint == checkpoint]
        if not plans:
            continue
        style = line_style(index)
        axes.scatter(
            [plan.slowdown for plan in plans],
            [plan.peak_memory_mib for plan in plans],
            color=style.color,
            marker=style.marker,
            s=36,
            zorder=2,
            label=words,
        )
    for plan in curve:
        axes.annotate(
            f"{plan.micro_batch_size}", (plan.slowdown, plan.peak_memory_mib), xytext=(5, 4),
            textcoords="offset points", fontsize=8,
        )  # fmt: skip
    axes.set_xlabel("time of a step over that of the fastest plan", fontsize=9)
    axes.set_ylabel("predicted peak of a step, MiB", fontsize=9)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=GRID_ALPHA)
    axes.set_title(title, fontsize=9, loc="left")
    axes.legend(title="recomputed (numbers: samples at a time)", title_fontsize=8, fontsize=8)
    save_figure(figure, path)
