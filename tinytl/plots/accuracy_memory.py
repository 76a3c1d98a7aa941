"""Accuracy against memory of finished runs, by method, and the front: runs that no other run beats in
both.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tinytl.config.flat import with_defaults
from tinytl.config.names import METHODS
from tinytl.plots.label_placing import place_labels
from tinytl.plots.run_label import (
    describe,
    differing_fields,
    shared_title,
    shorten,
)
from tinytl.plots.style import (
    BLACK,
    GRID_ALPHA,
    MUTED,
    LineStyle,
    any_script,
    line_style,
    plain_text,
    set_memory_axis,
)
from tinytl.runs.record import RunRecord

LEAST_ACCURACY_SPAN = 0.1
MOST_LABELS = 12
"""Number of points up to which each has a label with its other fields; of more, only the front has labels."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One configuration: the mean of its runs, which differ only in their seeds."""

    method: str
    config: Mapping[str, Any]
    memory_mib: float
    """Predicted peak of a training step."""
    measured_mib: float | None
    accuracy: float
    lowest: float
    highest: float
    n_runs: int


def accuracy_key(runs: Sequence[RunRecord]) -> str:
    """Returns the accuracy that can be compared: test if every run has it, else validation."""
    results = [run.result or {} for run in runs]
    tested = all(result.get("test_accuracy_top1") is not None for result in results)
    return "test_accuracy_top1" if tested else "val_accuracy_top1"


def comparable(run: RunRecord) -> bool:
    """Whether this figure can show a run: it has finished, and its values are finite."""
    result = run.result or {}
    figures = [result.get("val_accuracy_top1"), result.get("predicted_peak_mib")]
    return all(isinstance(value, (int, float)) and math.isfinite(value) for value in figures)


def average_over_seeds(runs: Sequence[RunRecord], key: str) -> list[Point]:
    """Returns a point for each configuration of finished `runs`, in the order of the methods."""
    alike: dict[tuple[str, ...], list[RunRecord]] = {}
    fields = differing_fields([run.config for run in runs], without=("seed",))
    for run in runs:
        config = with_defaults(run.config)
        alike.setdefault(tuple(repr(config.get(name)) for name in fields), []).append(run)
    points = [_point(group, key) for group in alike.values()]
    return sorted(points, key=lambda point: (_method_index(point.method), point.memory_mib))


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Returns the points that no other beats: less memory first, each more accurate than those before."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.memory_mib, -p.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front


def plot_accuracy_memory(runs: Sequence[RunRecord]) -> Figure:
    """Returns the figure of `runs`, all `comparable`: one panel per data set, one mark per method."""
    key = accuracy_key(runs)
    by_data: dict[str, list[RunRecord]] = {}
    for run in runs:
        by_data.setdefault(_data_name(run.config), []).append(run)
    points = {name: average_over_seeds(group, key) for name, group in by_data.items()}
    every = [point for of_data in points.values() for point in of_data]
    figure = Figure(figsize=(max(7.5, 5.2 * len(by_data)), 5), layout="constrained")
    panels = figure.subplots(1, len(by_data), squeeze=False)[0]
    for axes, (name, of_data) in zip(panels, points.items(), strict=True):
        _draw_panel(axes, of_data)
        if len(by_data) > 1:
            axes.set_title(plain_text(shorten(name, 40)), loc="left", fontsize=9)
    split = "test" if key.startswith("test") else "validation"
    panels[0].set_ylabel(f"top-1 accuracy, {split} (fraction)")
    title = shared_title([run.config for run in runs])
    seeds = max(point.n_runs for point in every)
    spread = f"; mean of up to {seeds} seeds, bar: lowest to highest" if seeds > 1 else ""
    figure.suptitle(plain_text(title + spread), x=0.01, ha="left", fontsize=10)
    figure.legend(handles=_legend(every), loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    # Labels are placed last, when the axes have their final size.
    with any_script():
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for axes, of_data in zip(panels, points.values(), strict=True):
            _label_points(axes, of_data)
    return figure


def method_style(method: str) -> LineStyle:
    """Returns the style of a method, the same in every figure."""
    return line_style(_method_index(method))


def _point(runs: Sequence[RunRecord], key: str) -> Point:
    results = [run.result for run in runs if run.result]
    accuracies = [result[key] for result in results]
    measured = [r["measured_peak_mib"] for r in results if r.get("measured_peak_mib") is not None]
    return Point(
        method=str(runs[0].config.get("method", "unknown")),
        config=runs[0].config,
        memory_mib=fmean(result["predicted_peak_mib"] for result in results),
        measured_mib=fmean(measured) if measured else None,
        accuracy=fmean(accuracies),
        lowest=min(accuracies),
        highest=max(accuracies),
        n_runs=len(results),
    )


def _draw_panel(axes: Axes, points: Sequence[Point]) -> None:
    for point, size in zip(points, _sizes(points), strict=True):
        style = method_style(point.method)
        below, above = point.accuracy - point.lowest, point.highest - point.accuracy
        if point.n_runs > 1:
            axes.errorbar(
                point.memory_mib,
                point.accuracy,
                yerr=[[max(0.0, below)], [max(0.0, above)]],
                color=style.color,
                capsize=3,
                linewidth=1,
                zorder=2,
            )
        axes.scatter(
            point.memory_mib,
            point.accuracy,
            s=size,
            color=style.color,
            marker=style.marker,
            edgecolor="white",
            linewidth=0.6,
            zorder=4,
        )
        if point.measured_mib is not None:
            axes.scatter(
                point.measured_mib,
                point.accuracy,
                s=150,
                marker="o",
                facecolor="none",
                edgecolor=BLACK,
                linewidth=0.9,
                zorder=3,
            )
    front = pareto_front(points)
    axes.step(
        [p.memory_mib for p in front],
        [p.accuracy for p in front],
        where="post",
        color=MUTED,
        linewidth=1.2,
        zorder=1,
    )
    memories = [p.memory_mib for p in points] + [p.measured_mib for p in points if p.measured_mib]
    set_memory_axis(axes, memories, "predicted peak of a training step")
    low, high = min(p.lowest for p in points), max(p.highest for p in points)
    half = 0.62 * max(high - low, LEAST_ACCURACY_SPAN)
    middle = (low + high) / 2
    axes.set_ylim(max(-0.03, middle - half), min(1.03, middle + half))
    axes.grid(alpha=GRID_ALPHA)


def _sizes(points: Sequence[Point]) -> list[float]:
    """Returns the area of each mark: if several coincide, each is smaller than the one beneath."""
    places = [(round(point.memory_mib, 2), round(point.accuracy, 3)) for point in points]
    return [52.0 * 3.0 ** min(3, places[turn + 1 :].count(place)) for turn, place in enumerate(places)]


def _label_points(axes: Axes, points: Sequence[Point]) -> None:
    shown = points if len(points) <= MOST_LABELS else pareto_front(points)
    by_method: dict[str, list[Mapping[str, Any]]] = {}
    for point in points:
        by_method.setdefault(point.method, []).append(point.config)
    fields = differing_fields([p.config for p in points], without=("seed", "method", "dataset", "data_dir"))
    labels = {}
    for point in shown:
        # Without neighbours of its method, the mark is label enough.
        text = describe(point.config, fields) if len(by_method[point.method]) > 1 else ""
        labels[point.memory_mib, point.accuracy] = plain_text(shorten(text, 36)) if text else ""
    marks = [(p.memory_mib, p.accuracy) for p in points]
    marks += [(p.measured_mib, p.accuracy) for p in points if p.measured_mib is not None]
    place_labels(axes, labels, marks)


def _legend(points: Sequence[Point]) -> list[Line2D]:
    handles = []
    for method in dict.fromkeys(sorted((p.method for p in points), key=_method_index)):
        style = method_style(method)
        mark = Line2D([], [], linestyle="", marker=style.marker, color=style.color, markersize=7)
        mark.set_label(plain_text(method))
        handles.append(mark)
    if any(point.measured_mib is not None for point in points):
        mark = Line2D([], [], linestyle="", marker="o", color=BLACK, markersize=11, label="measured")
        mark.set_markerfacecolor("none")
        handles.append(mark)
    handles.append(Line2D([], [], color=MUTED, linewidth=1.2, label="Pareto front"))
    return handles


def _method_index(method: str) -> int:
    return METHODS.index(method) if method in METHODS else len(METHODS)


def _data_name(config: Mapping[str, Any]) -> str:
    data_dir = config.get("data_dir")
    return Path(data_dir).name if data_dir else str(config.get("dataset", "unknown"))
