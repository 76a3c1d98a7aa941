"""The fronts of several studies with hover. Imports neither torch nor ray."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from tinytl.plots.style import line_style
from tuner.findings.text import metric_axis
from tuner.pictures.interactive import (
    MEMORY_COST,
    Cost,
    add_trials,
    hover_text,
    memory_axis,
    strokes,
    style,
)
from tuner.record.results import pareto_front
from tuner.record.trials import Trial, known, metric_shared


def fronts_figure(studies: Mapping[str, Sequence[Trial]], cost: Cost = MEMORY_COST) -> go.Figure:
    """Returns the fronts of several studies, each a stepped line in a colour and a dash of its own.

    A front has a stroke of one standard error at each dot, a baseline is a diamond in its study's colour.

    Args:
        studies: the complete trials by study. A study without any has no line.
        cost: what the fronts are over; trials whose `cost` is not known are left out.
    """
    figure = go.Figure()
    shown: list[float] = []
    for index, (name, trials) in enumerate(studies.items()):
        results = [r for r in trials if known(getattr(r, cost.measure)) is not None]
        shown += [getattr(r, cost.measure) for r in results]
        look, front = line_style(index), pareto_front(results, cost.measure)
        dash = ",".join(f"{2 * length:g}px" for length in look.dashes) or "solid"
        parts: list[tuple[Sequence[Trial], dict[str, Any]]] = [
            (results, {"marker": {"color": look.color, "size": 5, "opacity": 0.35}}),
            (
                [r for r in results if r.baseline is not None],
                {"marker": {"color": look.color, "size": 10, "symbol": "diamond-open"}},
            ),
            (
                front,
                {
                    "mode": "lines+markers",
                    "line": {"color": look.color, "shape": "hv", "width": 2, "dash": dash},
                    "marker": {"color": look.color, "size": 8},
                    "error_y": strokes(front, look.color),
                },
            ),
        ]
        for chosen, own in parts:
            add_trials(
                figure,
                chosen,
                cost,
                name=html.escape(name, quote=False),
                hovertext=[_of_study(name, result) for result in chosen],
                legendgroup=name,
                showlegend=chosen is front,
                **own,
            )
    metrics = {metric_shared(results) for results in studies.values() if results}
    words = metric_axis(*metrics) if len(metrics) == 1 else "each study's metric, validation"
    style(figure, memory_axis(shown, cost.title), {"title": words}, legend=True)
    return figure


def _of_study(study: str, result: Trial) -> str:
    name, _, rest = hover_text(result).partition("<br>")
    return f"{name} of {html.escape(study, quote=False)}<br>{rest}"
