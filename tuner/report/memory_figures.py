"""The report's figures of memory: against its prediction, against time, and over the plans of the front."""

import html
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from tinytl.plots.style import BLUE, line_style
from tuner.pictures.interactive import MEMORY, MUTED, log_axis, memory_axis, shorter, style
from tuner.record.trials import Trial, known
from tuner.report.figures import against_memory, dash_of

BAND = 0.1
"""How far measured memory may be from the predicted, as a share, before a trial warns."""


def predicted_measured_figure(predicted: Mapping[str, float], measured: Mapping[str, float]) -> go.Figure:
    """Returns measured against predicted memory of each trial, the diagonal, and the band of 10 %."""
    trials = [trial for trial in measured if trial in predicted]
    x, y = [predicted[trial] for trial in trials], [measured[trial] for trial in trials]
    ends = [min([*x, *y]) * 0.8, max([*x, *y]) * 1.25]
    figure = go.Figure()
    for factor, fill in ((1 - BAND, None), (1 + BAND, "tonexty")):
        figure.add_scatter(
            x=ends,
            y=[end * factor for end in ends],
            mode="lines",
            line={"width": 0},
            fill=fill,
            fillcolor="rgba(86,180,233,0.22)",
            hoverinfo="skip",
            name=f"within {BAND:.0%}",
            showlegend=fill is not None,
        )
    figure.add_scatter(
        x=ends, y=ends, mode="lines", line={"color": MUTED, "width": 1}, hoverinfo="skip", showlegend=False
    )
    figure.add_scatter(
        x=[shorter(value) for value in x],
        y=[shorter(value) for value in y],
        customdata=trials,
        hovertext=[
            f"<b>{html.escape(trial, quote=False)}</b><br>predicted {a:.1f} MiB, measured {b:.1f} MiB "
            f"({b / a - 1:+.1%})"
            for trial, a, b in zip(trials, x, y, strict=True)
        ],
        mode="markers",
        marker={"color": BLUE, "size": 7, "opacity": 0.75},
        name="trials",
    )
    axis = memory_axis(ends, "predicted, MiB")
    style(figure, axis, axis | {"title": "measured, MiB"}, legend=True, height=360)
    return figure


def time_figure(results: Sequence[Trial]) -> go.Figure:
    """Returns seconds per epoch against memory, of the plan that each trained with; the front in blue."""
    seconds = [result.epoch_time_s for result in results if known(result.epoch_time_s) is not None]
    y = memory_axis(seconds, "seconds per epoch")
    memories = [result.trained_memory_mib for result in results]
    x = memory_axis(memories, MEMORY)
    return against_memory(results, "epoch_time_s", x, y, 360, memory="trained_memory_mib")


def plans_figure(front: Sequence[Trial]) -> go.Figure:
    """Returns memory against slowdown of the front's plans: a line per trial, its own plan large."""
    figure = go.Figure()
    having = [trial for trial in front if trial.curve]
    for index, trial in enumerate(having):
        look, name = line_style(index), html.escape(trial.name, quote=False)
        figure.add_scatter(
            x=[shorter(plan.slowdown) for plan in trial.curve],
            y=[shorter(plan.peak_memory_mib) for plan in trial.curve],
            customdata=[trial.name] * len(trial.curve),
            hovertext=[
                f"<b>{name}</b><br>{plan.peak_memory_mib:.1f} MiB x {plan.slowdown:.2f}<br>{plan.describe()}"
                for plan in trial.curve
            ],
            mode="lines+markers",
            line={"color": look.color, "width": 1.5, "dash": dash_of(look.dashes), "shape": "hv"},
            marker={"size": [11 if plan == trial.plan else 5 for plan in trial.curve]},
            name=name,
        )
    slowdowns = [plan.slowdown for trial in having for plan in trial.curve]
    x = log_axis(slowdowns, "time of a step, fastest plan = 1")
    y = memory_axis([plan.peak_memory_mib for trial in having for plan in trial.curve], MEMORY)
    style(figure, x, y, legend=True, height=380)
    figure.update_layout(legend={"y": -0.22, "yanchor": "top", "font": {"size": 11}})
    return figure
