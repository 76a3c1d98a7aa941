"""Interactive figures, with hover, for the report and for MLflow. Imports neither torch nor ray."""

from collections.abc import Sequence

import plotly.graph_objects as go

from tinytl.plots.style import BLUE, LOG_FROM_RATIO, VERMILION
from tuner.results import TrialResult, pareto_front
from tuner.tables import describe

GREY = "#8c8c8c"
_HOVER = "%{customdata}<extra></extra>"


def front_figure(results: Sequence[TrialResult], title: str, budget_mib: float | None) -> go.Figure:
    """Returns every complete trial as a dot, the front as a stepped line, and the budget as a dashed one."""
    front = pareto_front(results)
    of_front = {result.trial for result in front}
    others = [result for result in results if result.trial not in of_front]
    figure = go.Figure()
    figure.add_scatter(
        x=[r.peak_memory_mib for r in others],
        y=[r.accuracy_top1 for r in others],
        customdata=[hover_text(r) for r in others],
        hovertemplate=_HOVER,
        mode="markers",
        marker={"color": GREY, "size": 7, "opacity": 0.7},
        name="trials",
    )
    figure.add_scatter(
        x=[r.peak_memory_mib for r in front],
        y=[r.accuracy_top1 for r in front],
        customdata=[hover_text(r) for r in front],
        hovertemplate=_HOVER,
        mode="lines+markers",
        line={"color": BLUE, "shape": "hv"},
        marker={"color": BLUE, "size": 10},
        name="Pareto front",
    )
    if budget_mib is not None:
        figure.add_vline(
            budget_mib,
            line={"color": VERMILION, "dash": "dash"},
            annotation={"text": f"budget {budget_mib:g} MiB", "textangle": -90, "yanchor": "top"},
        )
    shown = [r.peak_memory_mib for r in results] + ([budget_mib] if budget_mib is not None else [])
    if shown and max(shown) / min(shown) >= LOG_FROM_RATIO:
        figure.update_xaxes(type="log", dtick="D2")
    figure.update_xaxes(title="peak memory of a training step, MiB")
    figure.update_yaxes(title="validation accuracy, top-1")
    figure.update_layout(
        title={"text": title, "font": {"size": 15}},
        template="plotly_white",
        legend={"orientation": "h", "y": -0.2},
        margin={"l": 55, "r": 20, "t": 45, "b": 50},
    )
    return figure


def hover_text(result: TrialResult) -> str:
    """Returns what is shown over a trial's dot: its name, its figures, and what was chosen."""
    figures = (
        f"accuracy {result.accuracy_top1:.3f} · {result.peak_memory_mib:.1f} MiB · "
        f"epoch {result.epoch_time_s:.1f} s"
    )
    lines = [f"<b>{result.trial}</b>", figures, *(describe({k: v}) for k, v in result.params.items())]
    return "<br>".join(lines)
