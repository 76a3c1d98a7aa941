"""The front with hover, and the look that all interactive figures share. Imports neither torch nor ray."""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from tinytl.plots.style import BLUE, LOG_FROM_RATIO, ORANGE, VERMILION
from tuner.findings.text import accuracy_text, describe, epoch_text, metric_axis, point_name
from tuner.record.results import pareto_front
from tuner.record.trials import Trial, known, metric_shared

INK, MUTED, GRID = "#1c2127", "#8c8c8c", "#e4e7eb"
"""Text, marks in the background, and grid lines. The report's page has other colours for a dark screen."""
FONT = "-apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Liberation Sans', Arial, sans-serif"
MEMORY = "peak memory of a training step, MiB"
MOST_LABELS = 8
"""Up to this many trials of a front, each is labelled by `point_name`."""
_FINE, _TICKS, _COARSE = (1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5, 7), (1, 3)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What accuracy is held against: the x axis of a front."""

    measure: str
    """The attribute of a trial: a smaller value is better."""
    words: str
    title: str
    """Of the axis, with the unit."""


MEMORY_COST = Cost(measure="peak_memory_mib", words="memory", title=MEMORY)
TIME_COST = Cost(measure="epoch_time_s", words="time", title="seconds per epoch, as trained")


def front_figure(
    results: Sequence[Trial],
    title: str,
    budget_mib: float | None,
    best: str | None = None,
    cost: Cost = MEMORY_COST,
) -> go.Figure:
    """Returns every complete trial as a dot, the front as a stepped line, baselines, and the budget.

    The front and the baselines have a stroke of one standard error up and down, if it is known.

    Args:
        results: the complete trials; those whose `cost` is not known are left out.
        title: of the figure; empty: none.
        budget_mib: a dashed line, if memory is the cost.
        best: the name of the trial that has a ring around it.
        cost: what the front is over.
    """
    results = [r for r in results if known(getattr(r, cost.measure)) is not None]
    front = pareto_front(results, cost.measure)
    of_front = {result.name for result in front}
    others = [result for result in results if result.name not in of_front]
    figure = go.Figure()
    add_trials(figure, others, cost, hover=True, name="trials")
    # A baseline has its own name beside it.
    names = ["" if r.baseline is not None else point_name(r, results) for r in front]
    labels = names if len(front) <= MOST_LABELS else None
    add_trials(
        figure,
        front,
        cost,
        hover=True,
        name="Pareto front",
        mode="lines+markers" + ("+text" if labels else ""),
        text=labels and [html.escape(label, quote=False).replace("\n", "<br>") for label in labels],
        # The leftmost label would reach into the axis.
        textposition=["top right", *["top left"] * (len(front) - 1)],
        textfont={"size": 11},
        cliponaxis=False,
        line={"color": BLUE, "shape": "hv", "width": 2},
        marker={"color": BLUE, "size": 10},
        error_y=strokes(front, BLUE),
    )
    _add_baselines(figure, results, cost)
    ring = [result for result in results if result.name == best]
    if ring:
        add_trials(
            figure,
            ring,
            cost,
            name="best",
            marker={"color": BLUE, "size": 18, "symbol": "circle-open", "line": {"width": 2}},
            hoverinfo="skip",
        )
    budget_mib = budget_mib if cost is MEMORY_COST else None
    shown = [getattr(r, cost.measure) for r in results] + ([budget_mib] if budget_mib is not None else [])
    style(figure, memory_axis(shown, cost.title), {"title": metric_axis(metric_shared(results))}, legend=True)
    if budget_mib is not None:
        _add_budget(figure, budget_mib)
    if title:
        figure.update_layout(title={"text": html.escape(title, quote=False), "font": {"size": 15}})
        figure.update_layout(margin={"t": 50})
    return figure


def _add_baselines(figure: go.Figure, results: Sequence[Trial], cost: Cost) -> None:
    """Adds a diamond with its name for each baseline of the study."""
    baselines = [result for result in results if result.baseline is not None]
    if baselines:
        add_trials(
            figure,
            baselines,
            cost,
            hover=True,
            name="baselines",
            mode="markers+text",
            text=[html.escape(str(result.baseline), quote=False) for result in baselines],
            textposition="bottom center",
            textfont={"size": 11},
            cliponaxis=False,
            marker={"color": ORANGE, "size": 9, "symbol": "diamond", "line": {"width": 1, "color": INK}},
            error_y=strokes(baselines, ORANGE),
        )


def strokes(results: Sequence[Trial], color: str) -> dict[str, Any] | None:
    """Returns a stroke of one standard error for each dot; None if no error is known."""
    errors = [known(result.standard_error) for result in results]
    if all(error is None for error in errors):
        return None
    array = [0.0 if error is None else shorter(error) for error in errors]
    return {"type": "data", "array": array, "color": color, "thickness": 1.2, "width": 4}


def add_trials(
    figure: go.Figure, results: Sequence[Trial], cost: Cost = MEMORY_COST, hover: bool = False, **look: Any
) -> None:
    """Adds trials as dots at their cost and accuracy, each with its name as `customdata`.

    `hover`: put its `hover_text` into the figure; the report's page knows it by the name.
    """
    figure.add_scatter(
        x=[shorter(getattr(r, cost.measure)) for r in results],
        y=[shorter(r.score) for r in results],
        customdata=[r.name for r in results],
        **({"hovertext": [hover_text(r) for r in results]} if hover else {}),
        **({"mode": "markers", "marker": {"color": MUTED, "size": 7, "opacity": 0.7}} | look),
    )


def hover_text(result: Trial) -> str:
    """Returns what is shown over a trial's dot: its name, its figures, and what was chosen."""
    figures = (
        f"{result.metric_words} {accuracy_text(result)} · {result.peak_memory_mib:.1f} MiB · "
        f"epoch {epoch_text(result)} s"
    )
    plans = [
        f"{plan.peak_memory_mib:.1f} MiB x {plan.slowdown:.2f}: {plan.describe()}" for plan in result.curve
    ]
    lines = [figures, *plans, *(describe({k: v}) for k, v in result.params.items())]
    name = html.escape(result.label, quote=False)
    return "<br>".join([f"<b>{name}</b>", *(html.escape(line, quote=False) for line in lines)])


def style(
    figure: go.Figure,
    x: dict[str, Any],
    y: dict[str, Any],
    *,
    height: int | None = None,
    legend: bool = False,
) -> None:
    """Gives a figure its axes and the look that all figures share."""
    shared = {
        "gridcolor": GRID,
        "zeroline": False,
        "automargin": True,
        "linecolor": GRID,
        "ticks": "",
    }
    figure.update_xaxes(**(shared | x), title_font={"size": 12}, title_standoff=8)
    figure.update_yaxes(**(shared | y), title_font={"size": 12}, title_standoff=8)
    figure.update_traces(hovertemplate="%{hovertext}<extra></extra>", selector={"hoverinfo": None})
    figure.update_layout(
        template="none",
        font={"family": FONT, "size": 12, "color": INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        showlegend=legend,
        legend={"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"},
        hoverlabel={"align": "left", "font": {"family": FONT, "size": 12}},
        margin={"l": 10, "r": 14, "t": 34 if legend else 12, "b": 10},
        height=height,
        dragmode="zoom",
    )


def memory_axis(values_mib: Iterable[float], title: str) -> dict[str, Any]:
    """Returns an axis of memory, logarithmic if `values_mib` span enough."""
    return _axis([value for value in values_mib if value > 0], LOG_FROM_RATIO, title)


def log_axis(values: Iterable[float], title: str = "") -> dict[str, Any]:
    """Returns a logarithmic axis for values above 0."""
    return _axis(list(values), 1.0, title)


def _axis(values: Sequence[float], log_from_ratio: float, title: str) -> dict[str, Any]:
    if not values or max(values) / min(values) < log_from_ratio:
        return {"title": title, "type": "linear"}
    low, high = min(values), max(values)
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    steps = _FINE if high / low < 6 else _TICKS if high / low < 30 else _COARSE if high / low < 3000 else (1,)
    ticks = [float(f"{step}e{decade}") for decade in decades for step in steps]
    margin = 0.06 * math.log10(high / low) or 0.1
    return {
        "title": title,
        "type": "log",
        "tickvals": [tick for tick in ticks if low / 1.5 <= tick <= high * 1.5],
        "ticktext": [f"{tick:g}" for tick in ticks if low / 1.5 <= tick <= high * 1.5],
        "range": [math.log10(low) - margin, math.log10(high) + margin],
    }


def shorter(value: float) -> float:
    """Returns a number with only the digits that a figure can show: a report holds many numbers."""
    return float(f"{value:.4g}")


def _add_budget(figure: go.Figure, budget_mib: float) -> None:
    figure.add_shape(
        type="line",
        x0=budget_mib,
        x1=budget_mib,
        y0=0,
        y1=1,
        yref="paper",
        line={"color": VERMILION, "dash": "dash", "width": 1.5},
    )
    # On a log axis plotly wants a shape's value, but the logarithm of an annotation's.
    log = figure.layout.xaxis.type == "log"
    figure.add_annotation(
        x=math.log10(budget_mib) if log else budget_mib,
        y=0,
        yref="paper",
        yanchor="bottom",
        xanchor="right",
        text=f"budget {budget_mib:g} MiB",
        textangle=-90,
        showarrow=False,
        font={"color": VERMILION, "size": 11},
    )
