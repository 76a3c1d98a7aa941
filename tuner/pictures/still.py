"""The front, and which trials stopped at which rung, as pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from tinytl.plots.style import (
    BLUE,
    GRID_ALPHA,
    MUTED,
    ORANGE,
    VERMILION,
    line_style,
    plain_text,
    save_figure,
    set_memory_axis,
)
from tinytl.plural import counted
from tuner.findings.text import metric_axis, point_name
from tuner.record.results import pareto_front
from tuner.record.trials import Trial, known, metric_shared

_BESIDE = (
    ((-5, 5), "right", "bottom"),
    ((6, -6), "left", "top"),
    ((6, 5), "left", "bottom"),
    ((-5, -6), "right", "top"),
)
"""Places of a name beside its dot, the best first: offset in points, and which corner of it that is."""


def plot_front(results: Sequence[Trial], title: str, budget_mib: float | None, path: Path) -> None:
    """Writes a PNG: every complete trial a dot, the front a stepped line with methods, and the budget."""
    save_figure(front_figure(results, title, budget_mib), path)


def front_figure(results: Sequence[Trial], title: str, budget_mib: float | None) -> Figure:
    """Returns the picture that `plot_front` writes: strokes are standard errors, diamonds baselines."""
    front = pareto_front(results)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.scatter(
        [r.peak_memory_mib for r in results],
        [r.score for r in results],
        color=MUTED,
        s=22,
        label="trials",
    )
    x, y = [r.peak_memory_mib for r in front], [r.score for r in front]
    axes.step(x, y, where="post", color="#0b5394", linewidth=1.5)
    axes.scatter(x, y, color="#0b5394", s=38, zorder=3, label="Pareto front")
    _add_errors(axes, front, "#0b5394")
    baselines = [result for result in results if result.baseline is not None]
    if baselines:
        _add_baselines(axes, baselines, ORANGE, label="baselines")
        _add_errors(axes, baselines, ORANGE)
    if budget_mib is not None:
        axes.axvline(
            budget_mib, color="#b45309", linestyle="--", linewidth=1, label=f"budget {budget_mib:g} MiB"
        )
    shown = [r.peak_memory_mib for r in results] + ([budget_mib] if budget_mib is not None else [])
    set_memory_axis(axes, shown, "peak memory of a training step")
    axes.margins(y=0.12)
    axes.set_ylabel(metric_axis(metric_shared(results)))
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(alpha=GRID_ALPHA)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    named = [*front, *(result for result in baselines if result not in front)]
    _add_names(figure, axes, {result.name: point_name(result, results) for result in named}, named)
    return figure


def _add_names(figure: Figure, axes: Axes, names: Mapping[str, str], trials: Sequence[Trial]) -> None:
    """Writes a name beside the dot of each trial, where no name before it stands."""
    figure.draw_without_rendering()  # places are those of the final layout
    taken: list[Bbox] = []
    for trial in trials:
        name = names[trial.name] or trial.name
        dot = (trial.peak_memory_mib, trial.score)
        texts = [
            axes.annotate(name, dot, xytext=offset, textcoords="offset points", ha=ha, va=va, fontsize=8)
            for offset, ha, va in _BESIDE
        ]
        boxes = [text.get_window_extent() for text in texts]
        free = [turn for turn, box in enumerate(boxes) if not box.count_overlaps(taken)]
        chosen = free[0] if free else 0
        taken.append(boxes[chosen])
        for turn, text in enumerate(texts):
            if turn != chosen:
                text.remove()


def fronts_figure(studies: Mapping[str, Sequence[Trial]]) -> Figure:
    """Returns the fronts of several studies in one picture, each a stepped line with its study's name.

    Strokes are standard errors of the front, diamonds baselines. `studies`: the complete trials by study. A
    study without any has no line.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    shown = []
    for index, (name, results) in enumerate(studies.items()):
        look = line_style(index)
        for trials, size, alpha in ((results, 12, 0.35), (pareto_front(results), 36, 1.0)):
            axes.scatter(
                [trial.peak_memory_mib for trial in trials],
                [trial.score for trial in trials],
                color=look.color,
                marker=look.marker,
                s=size,
                alpha=alpha,
                linewidths=0,
            )
        front = pareto_front(results)
        _add_errors(axes, front, look.color)
        _add_baselines(axes, [trial for trial in results if trial.baseline is not None], look.color)
        shown += [trial.peak_memory_mib for trial in results]
        if front:
            axes.step(
                [trial.peak_memory_mib for trial in front],
                [trial.score for trial in front],
                where="post",
                color=look.color,
                marker=look.marker,
                dashes=look.dashes or (None, None),
                linewidth=1.5,
                label=plain_text(name),
            )
    set_memory_axis(axes, shown, "peak memory of a training step")
    axes.margins(y=0.12)
    metrics = {metric_shared(results) for results in studies.values() if results}
    axes.set_ylabel(metric_axis(*metrics) if len(metrics) == 1 else "each study's metric, validation")
    axes.grid(alpha=GRID_ALPHA)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _add_baselines(axes: Axes, baselines: Sequence[Trial], color: str, label: str | None = None) -> None:
    axes.scatter(
        [trial.peak_memory_mib for trial in baselines],
        [trial.score for trial in baselines],
        facecolors="none",
        edgecolors=color,
        marker="D",
        s=52,
        zorder=4,
        label=label,
    )


def _add_errors(axes: Axes, trials: Sequence[Trial], color: str) -> None:
    """Adds a stroke of one standard error up and down at each dot whose error is known."""
    having = [trial for trial in trials if known(trial.standard_error) is not None]
    axes.errorbar(
        [trial.peak_memory_mib for trial in having],
        [trial.score for trial in having],
        yerr=[trial.standard_error for trial in having],
        fmt="none",
        ecolor=color,
        elinewidth=1,
        capsize=2.5,
    )


def plot_rungs(trials: Sequence[Trial], title: str, path: Path) -> None:
    """Writes a PNG: a panel per rung (which trials continued, which stopped), and one for the end."""
    judged = [trial for trial in trials if trial.rungs]
    complete = [trial for trial in trials if trial.state == "complete"]
    epochs = sorted({epoch for trial in judged for epoch in trial.rungs})
    figure = Figure(figsize=(3.4 * (len(epochs) + 1), 3.8), layout="constrained")
    panels = figure.subplots(1, len(epochs) + 1, sharex=True, sharey=True, squeeze=False)[0]
    for axes, epoch in zip(panels, epochs, strict=False):
        here = [trial for trial in judged if epoch in trial.rungs]
        for gone, color, marker, label in (
            (False, BLUE, "o", "continues"),
            (True, VERMILION, "x", "stopped"),
        ):
            chosen = [trial for trial in here if (trial.stopped_at == epoch) is gone]
            axes.scatter(
                [trial.peak_memory_mib for trial in chosen],
                [trial.rungs[epoch] for trial in chosen],
                color=color,
                marker=marker,
                s=30,
                label=label,
            )
        gone_here = sum(trial.stopped_at == epoch for trial in here)
        axes.set_title(
            f"after {counted(epoch, 'epoch')}: {gone_here} of {len(here)} stopped", loc="left", fontsize=9
        )
    front = pareto_front(complete)
    x, y = [r.peak_memory_mib for r in front], [r.score for r in front]
    last = panels[-1]
    last.scatter([r.peak_memory_mib for r in complete], [r.score for r in complete], color=MUTED, s=22)
    last.step(x, y, where="post", color=BLUE, linewidth=1.5)
    last.scatter(x, y, color=BLUE, s=30, zorder=3)
    last.set_title(f"at the end: {len(front)} of {len(complete)} on the front", loc="left", fontsize=9)
    for axes in panels:
        axes.grid(alpha=GRID_ALPHA)
    shown = [trial.peak_memory_mib for trial in judged + complete]
    for axes in panels:
        set_memory_axis(axes, shown, "peak memory of a step")
    panels[0].set_ylabel(metric_axis(metric_shared(trials)))
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8)
    save_figure(figure, path)
