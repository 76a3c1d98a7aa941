"""The report's figures beside the front. Each dot has the name of its trial; the page shows the rest."""

import html
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from optuna.distributions import BaseDistribution, FloatDistribution
from plotly.subplots import make_subplots

from tinytl.config.names import BACKBONE_FAMILIES, METRICS
from tinytl.plots.curves import MOST_NAMED
from tinytl.plots.style import BLUE, DASHES, ORANGE, VERMILION, line_style
from tuner.findings.importance import Importance
from tuner.findings.text import metric_axis, short
from tuner.pictures.interactive import MEMORY, MUTED, log_axis, memory_axis, shorter, style
from tuner.record.results import pareto_front
from tuner.record.trials import Trial, known, metric_shared

MOST_CATEGORIES = 8
"""Up to this many different numbers of a parameter, each has a column of its own."""
LONG_LABELS = 32
"""From this many characters in a row of labels, the labels are slanted."""
LONGEST_LABEL = 16
"""Characters of a slanted label; of a longer one the middle is left out."""
TICK_CHARACTERS = 24
"""Of all labels of a slice's axis of numbers, which has 250 pixels."""
TRAIN_ACCURACY = "train_accuracy_top1"
_SMALL = {"height": 300}


def importance_figure(importance: Mapping[str, Importance], parameters: Sequence[str]) -> go.Figure:
    """Returns each parameter's share of the variance, one bar per objective, the first parameter on top.

    A stroke at the end of a bar is the share's uncertainty.
    """
    figure = go.Figure()
    looks = {metric: (f"of {words}", BLUE) for metric, words in METRICS.items()}
    looks["peak_memory_mib"] = ("of memory", ORANGE)
    for objective, (shares, spread) in reversed(list(importance.items())):
        name, color = looks[objective]
        values = [shares.get(parameter, 0.0) for parameter in reversed(parameters)]
        spreads = [spread.get(parameter, 0.0) for parameter in reversed(parameters)]
        figure.add_bar(
            x=[shorter(value) for value in values],
            y=[html.escape(parameter, quote=False) for parameter in reversed(parameters)],
            orientation="h",
            name=name,
            marker={"color": color},
            error_x={
                "array": [shorter(value) for value in spreads],
                # A share is not below 0.
                "arrayminus": [shorter(min(own)) for own in zip(values, spreads, strict=True)],
                "thickness": 1,
                "width": 3,
            },
            hovertext=[
                f"<b>{html.escape(parameter, quote=False)}</b><br>{value:.0%} ± {around:.0%} {name}"
                for parameter, value, around in zip(reversed(parameters), values, spreads, strict=True)
            ],
        )
    height = 90 + 30 * len(parameters)
    style(figure, {"title": "share of the variance", "tickformat": ".0%"}, {}, height=height, legend=True)
    figure.update_layout(barmode="group", bargap=0.3, legend={"traceorder": "reversed"})
    return figure


def slice_figure(parameter: str, results: Sequence[Trial], distribution: BaseDistribution) -> go.Figure:
    """Returns accuracy above memory over a parameter's values, of the complete trials that have it.

    If there are few values, each has a column, with a stroke at the median.
    """
    front = {result.name for result in pareto_front(results)}
    having = [result for result in results if parameter in result.params]
    values = [result.params[parameter] for result in having]
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.05)
    columns = columns_of(values, distribution)
    if columns is None:
        positions = [shorter(value) for value in values]
        x = _few_ticks(log_axis(values)) if getattr(distribution, "log", False) else {"type": "linear"}
    else:
        places = [columns.index(value) for value in values]
        positions = [round(place + _jitter(turn), 3) for turn, place in enumerate(places)]
        labels = [html.escape(_column_label(value), quote=False) for value in columns]
        x = {
            "type": "linear",
            "tickvals": list(range(len(columns))),
            "ticktext": labels,
            "range": [-0.5, len(columns) - 0.5],
            "ticklabeloverflow": "allow",
            "tickangle": -30 if sum(map(len, labels)) > LONG_LABELS else 0,
        }
    for row, measure in ((1, "score"), (2, "peak_memory_mib")):
        y = [shorter(getattr(result, measure)) for result in having]
        for on_front, look in (
            (False, {"color": MUTED, "size": 5, "opacity": 0.6}),
            (True, {"color": BLUE, "size": 7}),
        ):
            chosen = [i for i, result in enumerate(having) if (result.name in front) is on_front]
            figure.add_scatter(
                x=[positions[i] for i in chosen],
                y=[y[i] for i in chosen],
                customdata=[having[i].name for i in chosen],
                mode="markers",
                marker=look,
                row=row,
                col=1,
            )
        if columns is not None:
            _add_medians(figure, row, places, y)
    style(figure, x, {}, height=300)
    # Fixed margins: to compute them, plotly would draw each of the many slices twice.
    slanted = bool(x.get("tickangle"))
    figure.update_layout(margin={"l": 58, "b": 70 if slanted else 26})
    figure.update_xaxes(automargin=False)
    figure.update_yaxes(automargin=False, title_font={"size": 12})
    figure.update_yaxes(title=METRICS[metric_shared(having)], row=1, col=1)
    figure.update_yaxes(**memory_axis([r.peak_memory_mib for r in having], "MiB"), row=2, col=1)
    figure.update_xaxes(title="", showticklabels=False, row=1, col=1)
    return figure


def _column_label(value: Any) -> str:
    """Returns a value in few characters; of a network, without the package that it is from."""
    text = short(value)
    family, slash, name = text.partition("/")
    text = name if slash and family in BACKBONE_FAMILIES else text
    half = LONGEST_LABEL // 2
    return text if len(text) <= LONGEST_LABEL else f"{text[:half]}…{text[1 - half :]}"


def _few_ticks(axis: dict[str, Any]) -> dict[str, Any]:
    """Returns a logarithmic axis with so few ticks that their labels stand beside each other."""
    if "tickvals" not in axis:
        return axis
    low, high = (10**end for end in axis["range"])
    ticks = [tick for tick in axis["tickvals"] if low <= tick <= high]
    while len(ticks) > 2 and sum(len(f"{tick:g}") for tick in ticks) > TICK_CHARACTERS:
        ticks = ticks[::2]
    return axis | {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks], "tickangle": 0}


def rung_figure(trials: Sequence[Trial], epoch: int, span_mib: Sequence[float]) -> go.Figure:
    """Returns accuracy against memory at the rung `epoch`: which trials continued, and which stopped.

    `span_mib`: all memories of the study, so that its rungs have one axis.
    """
    figure = go.Figure()
    for gone, name, marker in (
        (False, "continues", {"color": BLUE, "size": 7}),
        (True, "stopped", {"color": VERMILION, "size": 8, "symbol": "x-thin", "line": {"width": 2}}),
    ):
        chosen = [trial for trial in trials if (trial.stopped_at == epoch) is gone]
        if gone:
            marker["line"] = {"width": 2, "color": VERMILION}
        figure.add_scatter(
            x=[shorter(trial.peak_memory_mib) for trial in chosen],
            y=[shorter(trial.rungs[epoch]) for trial in chosen],
            customdata=[trial.name for trial in chosen],
            hovertext=[
                f"<b>{html.escape(trial.name, quote=False)}</b><br>{trial.metric_words} "
                f"{trial.rungs[epoch]:.3f} after {_epochs(epoch)} · {trial.peak_memory_mib:.1f} MiB<br>{name}"
                for trial in chosen
            ],
            mode="markers",
            marker=marker,
            name=name,
        )
    style(
        figure,
        memory_axis(span_mib, MEMORY),
        {"title": metric_axis(metric_shared(trials))},
        legend=True,
        **_SMALL,
    )
    return figure


def curves_figure(
    measure: str, rows: Mapping[str, Sequence[Mapping[str, Any]]], named: Mapping[str, str]
) -> go.Figure:
    """Returns a metric or the `loss` by epoch of the front's trials: validation thick, training thin.

    Of training images only top-1 accuracy and the loss are recorded.

    Args:
        measure: one of `METRICS`, or `loss`.
        rows: the epochs of each trial.
        named: labels of those that have a colour; the others are grey.
    """
    keys = {"accuracy_top1": ("accuracy_top1", TRAIN_ACCURACY), "loss": ("val_loss", "loss")}.get(
        measure, (measure,)
    )
    words = METRICS.get(measure, measure)
    figure = go.Figure()
    for trial, epochs in sorted(rows.items(), key=lambda item: item[0] in named):
        look = line_style(list(named).index(trial)) if trial in named else None
        color, dash = (MUTED, "solid") if look is None else (look.color, dash_of(look.dashes))
        shown = html.escape(trial, quote=False)
        for key, width, opacity in zip(keys, (2.2, 1.0), (1.0, 0.55), strict=False):
            if look is None and key != keys[0]:
                continue
            points = [(row["epoch"], row[key]) for row in epochs if _is_finite(row.get(key))]
            which = "validation" if key == keys[0] else "training"
            figure.add_scatter(
                x=[epoch for epoch, _ in points],
                y=[shorter(value) for _, value in points],
                customdata=[trial] * len(points),
                hovertext=[
                    f"<b>{shown}</b><br>epoch {epoch}: {which} {words} {value:.3f}" for epoch, value in points
                ],
                mode="lines+markers" if len(points) <= MOST_NAMED else "lines",
                line={"color": color, "width": width if look else 1.0, "dash": dash},
                marker={"size": 5 if width > 2 else 3},
                opacity=opacity,
                name=html.escape(named.get(trial, trial), quote=False),
                legendgroup=trial,
                showlegend=look is not None and key == keys[0],
            )
    last = max((row["epoch"] for epochs in rows.values() for row in epochs), default=1)
    x = {"title": "epoch", "dtick": max(1, math.ceil(last / 10))}
    title = {"accuracy_top1": "accuracy, top-1", "loss": "loss (cross-entropy)"}.get(measure, words)
    style(figure, x, {"title": title}, legend=True, height=380)
    figure.update_layout(legend={"y": -0.22, "yanchor": "top", "font": {"size": 11}})
    return figure


def end_figure(results: Sequence[Trial], span_mib: Sequence[float]) -> go.Figure:
    """Returns accuracy against memory of the trials that trained to the end; it is shown beside the rungs."""
    y = {"title": metric_axis(metric_shared(results))}
    return against_memory(results, "score", memory_axis(span_mib, MEMORY), y, 300)


def against_memory(
    results: Sequence[Trial],
    measure: str,
    x: dict[str, Any],
    y: dict[str, Any],
    height: int,
    memory: str = "peak_memory_mib",
) -> go.Figure:
    """Returns a measure of each trial against its memory; the front in blue."""
    front = {result.name for result in pareto_front(results)}
    figure = go.Figure()
    for on_front, name, marker in (
        (False, "trials", {"color": MUTED, "size": 7, "opacity": 0.7}),
        (True, "Pareto front", {"color": BLUE, "size": 9}),
    ):
        measured = [result for result in results if known(getattr(result, measure)) is not None]
        chosen = [result for result in measured if (result.name in front) is on_front]
        figure.add_scatter(
            x=[shorter(getattr(result, memory)) for result in chosen],
            y=[shorter(getattr(result, measure)) for result in chosen],
            customdata=[result.name for result in chosen],
            mode="markers",
            marker=marker,
            name=name,
        )
    style(figure, x, y, legend=True, height=height)
    return figure


def columns_of(values: Sequence[Any], distribution: BaseDistribution | None) -> list[Any] | None:
    """Returns the different values in order if each has a column; None if they are a scale."""
    if isinstance(distribution, FloatDistribution):
        return None
    different = list(dict.fromkeys(values))
    numbers = [v for v in different if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if len(numbers) == len(different) > MOST_CATEGORIES:
        return None
    others = [value for value in different if value not in numbers]
    return [*sorted(numbers), *sorted(others, key=str)]


def _jitter(turn: int) -> float:
    """Returns a shift to the side, so that equal dots stand apart; the golden ratio spreads them evenly."""
    return (turn * 0.618034 % 1 - 0.5) * 0.56


def _add_medians(figure: go.Figure, row: int, places: Sequence[int], y: Sequence[float]) -> None:
    at: dict[int, list[float]] = {}
    for place, value in zip(places, y, strict=True):
        at.setdefault(place, []).append(value)
    x_ends: list[float | None] = []
    y_ends: list[float | None] = []
    for place, own in at.items():
        middle = statistics.median(own)
        x_ends += [place - 0.36, place + 0.36, None]
        y_ends += [middle, middle, None]
    figure.add_scatter(
        x=x_ends,
        y=y_ends,
        mode="lines",
        line={"color": VERMILION, "width": 2},
        hoverinfo="skip",
        row=row,
        col=1,
    )


def dash_of(lengths: tuple[float, ...]) -> str:
    """Returns a line's dash as plotly writes it."""
    return ",".join(f"{2 * length:g}px" for length in lengths) if lengths in DASHES and lengths else "solid"


def _epochs(count: int) -> str:
    return f"{count} epoch{'' if count == 1 else 's'}"


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
