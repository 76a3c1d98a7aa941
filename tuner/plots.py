"""The front as a picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tinytl.plots.style import GRID_ALPHA, MUTED, save_figure, set_memory_axis
from tuner.results import TrialResult, pareto_front


def plot_front(results: Sequence[TrialResult], title: str, budget_mib: float | None, path: Path) -> None:
    """Writes a PNG: every complete trial a dot, the front a stepped line with methods, and the budget."""
    front = pareto_front(results)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.scatter(
        [r.peak_memory_mib for r in results],
        [r.accuracy_top1 for r in results],
        color=MUTED,
        s=22,
        label="trials",
    )
    x, y = [r.peak_memory_mib for r in front], [r.accuracy_top1 for r in front]
    axes.step(x, y, where="post", color="#0b5394", linewidth=1.5)
    axes.scatter(x, y, color="#0b5394", s=38, zorder=3, label="Pareto front")
    for result in front:
        method = result.params.get("method", result.trial)
        axes.annotate(
            str(method),
            (result.peak_memory_mib, result.accuracy_top1),
            xytext=(-5, 5),
            textcoords="offset points",
            ha="right",
            fontsize=8,
        )
    if budget_mib is not None:
        axes.axvline(
            budget_mib, color="#b45309", linestyle="--", linewidth=1, label=f"budget {budget_mib:g} MiB"
        )
    shown = [r.peak_memory_mib for r in results] + ([budget_mib] if budget_mib is not None else [])
    set_memory_axis(axes, shown, "peak memory of a training step")
    axes.margins(y=0.12)
    axes.set_ylabel("validation accuracy, top-1")
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(alpha=GRID_ALPHA)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    save_figure(figure, path)
