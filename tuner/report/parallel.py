"""Parallel coordinates: each trial a line over its parameters, its accuracy and its memory.

Drawn as lines of a plain figure: plotly's own kind needs WebGL, which browsers in machines without a graphics
driver lack, and its lines have no names.
"""

import html
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import plotly.graph_objects as go
from optuna.distributions import BaseDistribution

from tinytl.config.names import METRICS
from tinytl.plots.style import BLUE, LOG_FROM_RATIO, VERMILION
from tuner.findings.text import short
from tuner.pictures.interactive import INK, MUTED, log_axis, style
from tuner.record.trials import Trial, metric_shared
from tuner.report.figures import columns_of

MOST_AXES = 12
"""Parameters that have an axis; of more, those that decide most."""
AXIS_PX = 96
"""Width that an axis needs with its labels, in CSS pixels."""
LONGEST_TICK = 13
"""Characters of a tick's label."""
HALO = "0 0 3px #ffffff, 0 0 2px #ffffff"
"""Around a tick's label, so that lines pass behind it. The page has another one for a dark screen."""
_QUARTERS = (
    ("last quarter", {"color": MUTED, "width": 1}, 0.45),
    ("third quarter", {"color": MUTED, "width": 1}, 0.9),
    ("second quarter", {"color": BLUE, "width": 1}, 0.55),
    ("best quarter", {"color": BLUE, "width": 2}, 1.0),
)
_NONE_AT = -0.12
"""Where trials without a parameter pass its axis; its values lie between 0 and 1."""
_TICKS = 5


class _Axis(NamedTuple):
    title: str
    places: list[float]
    """Of each trial, 0 to 1, or `_NONE_AT`."""
    ticks: list[tuple[float, str]]


def parallel_figure(
    results: Sequence[Trial], parameters: Sequence[str], distributions: Mapping[str, BaseDistribution]
) -> go.Figure:
    """Returns a line per trial over the metric, memory and `parameters`, in four colours from the worst
    quarter to the best.

    The metric and memory come first: a narrow window shows the left part of a wide figure.

    A trial without a parameter passes its axis below all values, at a dash. The last trace is empty: the page
    draws the line in it over which the mouse is.
    """
    ranked = sorted(results, key=lambda result: result.score)
    axes = [_scale(METRICS[metric_shared(ranked)], [r.score for r in ranked], log=False, spec=".3g")]
    memories = [result.peak_memory_mib for result in ranked]
    axes.append(_scale("MiB", memories, log=max(memories) / min(memories) >= LOG_FROM_RATIO, spec=".4g"))
    axes += [_parameter_axis(name, ranked, distributions.get(name)) for name in parameters]
    figure = go.Figure()
    bounds = [round(len(ranked) * turn / len(_QUARTERS)) for turn in range(len(_QUARTERS) + 1)]
    for (name, line, opacity), (first, last) in zip(_QUARTERS, pairwise(bounds), strict=True):
        _add_lines(figure, ranked, range(first, last), axes, name=name, line=line, opacity=opacity)
    _add_ticks(figure, axes)
    figure.add_scatter(x=[], y=[], mode="lines", line={"color": VERMILION, "width": 3}, hoverinfo="skip")
    titles = [html.escape(_cut(axis.title, 24), quote=False) for axis in axes]
    x = {
        "tickvals": list(range(len(axes))),
        "ticktext": titles,
        "range": [-0.25, len(axes) - 0.3],
        "side": "top",
        "tickangle": -20,
        "fixedrange": True,
    }
    lowest = min(min(axis.places) for axis in axes)
    y = {"visible": False, "range": [lowest - 0.06, 1.06], "fixedrange": True}
    style(figure, x, y, height=430)
    figure.update_layout(margin={"l": 20, "r": 50, "t": 92, "b": 10}, dragmode=False)
    return figure


def quarters() -> list[tuple[str, list[int]]]:
    """Returns the choices of lines, each with the traces of `parallel_figure` that it leaves out."""
    every = list(range(len(_QUARTERS)))
    return [("all", []), ("the better half", every[:2]), ("the best quarter", every[:3])]


def width_px(axes: int) -> int:
    """Returns how wide a figure with so many axes has to be, to be read."""
    return AXIS_PX * axes


def _add_lines(
    figure: go.Figure, ranked: Sequence[Trial], chosen: Sequence[int], axes: Sequence[_Axis], **look: Any
) -> None:
    """Adds the lines of some trials as one trace: a trace per trial would need seconds to be drawn."""
    x: list[float | None] = []
    y: list[float | None] = []
    names: list[str | None] = []
    for index in chosen:
        x += [*range(len(axes)), None]
        y += [*(axis.places[index] for axis in axes), None]
        names += [ranked[index].name] * (len(axes) + 1)
    figure.add_scatter(x=x, y=y, customdata=names, mode="lines", **look)


def _add_ticks(figure: go.Figure, axes: Sequence[_Axis]) -> None:
    ticks = [(index, place, text) for index, axis in enumerate(axes) for place, text in axis.ticks]
    figure.add_scatter(
        x=[index for index, _, _ in ticks],
        y=[place for _, place, _ in ticks],
        text=[html.escape(_cut(text, LONGEST_TICK), quote=False) for _, _, text in ticks],
        mode="markers+text",
        marker={"color": MUTED, "size": 5, "symbol": "line-ew-open"},
        textposition="middle right",
        textfont={"size": 10, "color": INK, "shadow": HALO},
        hoverinfo="skip",
        cliponaxis=False,
    )


def _parameter_axis(name: str, results: Sequence[Trial], distribution: BaseDistribution | None) -> _Axis:
    having = [result.params[name] for result in results if name in result.params]
    columns = columns_of(having, distribution)
    if columns is None:
        numbers = [float(result.params[name]) if name in result.params else None for result in results]
        return _scale(name, numbers, log=bool(getattr(distribution, "log", False)))
    places = [float(columns.index(r.params[name])) if name in r.params else None for r in results]
    return _axis(name, places, [(float(turn), short(value)) for turn, value in enumerate(columns)])


def _scale(name: str, values: Sequence[float | None], *, log: bool, spec: str = ".2g") -> _Axis:
    """Returns an axis of numbers, logarithmic if asked for."""
    there = [value for value in values if value is not None]
    low, high = min(there), max(there)
    ticks = [tick for tick in log_axis(there).get("tickvals", []) if low <= tick <= high] if log else []
    if len(ticks) < 2:
        ticks = sorted({low + (high - low) * turn / (_TICKS - 1) for turn in range(_TICKS)})

    def placed(value: float) -> float:
        return math.log10(value) if log else value

    numbers = [None if value is None else placed(value) for value in values]
    return _axis(name, numbers, [(placed(tick), format(tick, spec)) for tick in ticks])


def _axis(title: str, numbers: Sequence[float | None], ticks: Sequence[tuple[float, str]]) -> _Axis:
    there = [number for number in numbers if number is not None]
    low, span = min(there), max(there) - min(there)

    def share(number: float) -> float:
        return round((number - low) / span, 3) if span else 0.5

    places = [_NONE_AT if number is None else share(number) for number in numbers]
    found = [(share(number), text) for number, text in ticks]
    return _Axis(title, places, [(_NONE_AT, "-"), *found] if None in numbers else found)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
