"""The figures of a report, each with its heading, its note, and a text for readers who cannot see it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import plotly.graph_objects as go
from optuna.distributions import BaseDistribution

from tinytl.config.names import METRICS
from tinytl.plots.curves import MOST_NAMED
from tinytl.plural import counted
from tuner.findings.importance import MIN_TRIALS, MOST_TRIALS, Importance
from tuner.findings.kept_importance import known_importance
from tuner.findings.text import capitalized, importance_line, short
from tuner.pictures.interactive import MEMORY_COST, TIME_COST, Cost, front_figure
from tuner.record.reading import StudyReading
from tuner.record.results import pareto_front
from tuner.record.trials import Trial, known, metric_shared
from tuner.report.figures import curves_figure, end_figure, importance_figure, rung_figure, slice_figure
from tuner.report.folders import Rows, largest_of
from tuner.report.memory_figures import BAND, plans_figure, predicted_measured_figure, time_figure
from tuner.report.parallel import MOST_AXES, parallel_figure, quarters, width_px

LEAST_TRIALS = 5
"""A parameter has a panel if so many complete trials have it: fewer dots show no tendency."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A figure and its words."""

    id: str
    title: str
    note: str
    alt: str
    figure: str
    """JSON, safe inside a script element."""
    height: int | None
    """Height in pixels; None: the page decides."""
    min_width: int | None = None
    """Width in pixels that it needs: on a narrower page it scrolls inside itself."""
    choices: Sequence[tuple[str, Sequence[int]]] = ()
    """What a reader may look at: labels, each with the traces that it leaves out. None: all is shown."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """Figures under one heading."""

    id: str
    title: str
    note: str
    panels: Sequence[Panel]
    columns: int = 1
    """At most this many beside each other."""


def front_panels(study: StudyReading) -> list[Panel]:
    """Returns the front over memory, with the budget and the best, and that over the time of an epoch.

    None if no trial is complete; without the second if no trial has a time.
    """
    found = [_front("front", study, MEMORY_COST, "MiB", ".1f")]
    found.append(_front("front-time", study, TIME_COST, "s per epoch", ".3g"))
    return [panel for panel in found if panel is not None]


def _front(id: str, study: StudyReading, cost: Cost, unit: str, spec: str) -> Panel | None:
    results = [trial for trial in study.complete if known(getattr(trial, cost.measure)) is not None]
    if not results:
        return None
    best, front = study.best, pareto_front(results, cost.measure)
    lowest, highest = front[0], front[-1]
    baselines = ", ".join(str(trial.baseline) for trial in results if trial.baseline is not None)
    alt = (
        f"{capitalized(lowest.metric_words)} against {cost.words} of {len(results)} trials. The front has "
        f"{len(front)}, from {lowest.metric_words} {lowest.score:.3f} in "
        f"{getattr(lowest, cost.measure):{spec}} {unit} to {highest.score:.3f} in "
        f"{getattr(highest, cost.measure):{spec}} {unit}."
    )
    alt += f" Baselines are marked: {baselines}." if baselines else ""
    alt += " The tables have the same figures."
    figure = front_figure(results, "", study.budget_mib, None if best is None else best.name, cost)
    figure.update_layout(height=None)
    return panel_of(id, "The front", "", alt, figure)


def sections(study: StudyReading, rows: Rows) -> list[Section]:
    """Returns everything below the front for which there is data."""
    importance, results = known_importance(study), study.complete
    shares = {objective: own.shares for objective, own in (importance or {}).items()}
    found = [
        _importance(importance, len(results)),
        _slices(study, shares),
        _together(study, shares),
        _rungs(study),
        _curves(results, rows),
        _memory(results, rows),
    ]
    return [section for section in found if section is not None]


def _importance(importance: Mapping[str, Importance] | None, complete: int) -> Section:
    title = "What decides"
    if importance is None:
        note = f"Shown once {MIN_TRIALS} trials are complete; {complete} are."
        return Section(id="importance", title=title, note=note, panels=())
    names = {**METRICS, "peak_memory_mib": "memory"}
    alt = (
        ". ".join(
            importance_line(capitalized(names[objective]), own) for objective, own in importance.items()
        )
        + "."
    )
    shares = {objective: own.shares for objective, own in importance.items()}
    parameters = _by_importance(shares, [name for own in shares.values() for name in own])
    drawn = f"{MOST_TRIALS} of " if complete > MOST_TRIALS else ""
    note = (
        f"{alt} Shares of the variance among {drawn}{complete} complete trials that each explains (fANOVA), "
        "and how far they move if the trials are drawn anew from themselves."
    )
    figure = importance_figure(importance, parameters)
    panels = [panel_of("importance", "", "", alt, figure)] if parameters else []
    return Section(id="importance", title=title, note=note, panels=panels)


def _slices(study: StudyReading, shares: Mapping[str, Mapping[str, float]]) -> Section | None:
    results, values = study.complete, _values(study.complete)
    distributions = _distributions(study)
    varying = _varying(values)
    same = {name: own[0] for name, own in values.items() if name not in varying}
    enough = [name for name in varying if len(values[name]) >= LEAST_TRIALS]
    panels = []
    for index, name in enumerate(_by_importance(shares, enough)):
        having = len(values[name])
        some = "" if having == len(results) else f"{having} of {len(results)} trials have it."
        alt = f"Accuracy and memory of {having} trials over {name}. {some}"
        panels.append(
            panel_of(f"slice-{index}", name, some, alt, slice_figure(name, results, distributions[name]))
        )
    if not varying:
        return None
    note = ""
    if panels:
        note = (
            "Accuracy above, memory below, of every complete trial; the front's in blue, strokes are medians."
        )
    if len(enough) < len(varying):
        few = ", ".join(f"{name} ({len(values[name])})" for name in varying if name not in enough)
        note += f" A parameter is shown once {LEAST_TRIALS} complete trials have it; fewer have {few}."
    if same:
        note += " The same in all: " + ", ".join(f"{k} {short(v)}" for k, v in same.items()) + "."
    return Section(id="slices", title="Parameter by parameter", note=note.strip(), panels=panels, columns=3)


def _together(study: StudyReading, shares: Mapping[str, Mapping[str, float]]) -> Section | None:
    results, values = study.complete, _values(study.complete)
    enough = [name for name in _varying(values) if len(values[name]) >= LEAST_TRIALS]
    if not enough:
        return None
    shown = _by_importance(shares, enough)[:MOST_AXES]
    words = METRICS[study.metric]
    note = (
        f"Each line is a complete trial over its parameters, {words} and memory, in blue the better half by "
        f"{words}. At a dash: it does not have the parameter. Over a line, that trial alone is drawn bold."
    )
    if len(shown) < len(enough):
        note += f" The {len(shown)} of {len(enough)} parameters that decide most."
    alt = f"Parallel coordinates of {len(results)} trials over {', '.join(shown)}; the table has the figures."
    figure = parallel_figure(results, shown, _distributions(study))
    panel = replace(
        panel_of("together", "", "", alt, figure), min_width=width_px(len(shown) + 2), choices=quarters()
    )
    return Section(id="parallel", title="Parameters together", note=note, panels=[panel])


def _values(results: Sequence[Trial]) -> dict[str, list[Any]]:
    """Returns the values of each parameter, of the trials that have it."""
    values: dict[str, list[Any]] = {}
    for result in results:
        for name, value in result.params.items():
            values.setdefault(name, []).append(value)
    return values


def _varying(values: Mapping[str, Sequence[Any]]) -> list[str]:
    return [name for name, own in values.items() if len(set(map(repr, own))) > 1]


def _distributions(study: StudyReading) -> dict[str, BaseDistribution]:
    found: dict[str, BaseDistribution] = {}
    for trial in study.trials:
        found |= trial.distributions
    return found


def _rungs(study: StudyReading) -> Section | None:
    results, judged = study.complete, [trial for trial in study.trials if trial.rungs]
    if not judged:
        return None
    span_mib = [trial.peak_memory_mib for trial in judged] + [r.peak_memory_mib for r in results]
    panels = []
    for epoch in sorted({epoch for trial in judged for epoch in trial.rungs}):
        here = [trial for trial in judged if epoch in trial.rungs]
        text = f"{sum(trial.stopped_at == epoch for trial in here)} of {len(here)} stopped"
        title = f"After {counted(epoch, 'epoch')}"
        figure = rung_figure(here, epoch, span_mib)
        panels.append(panel_of(f"rung-{epoch}", title, text, f"{title}: {text}.", figure))
    end = f"{len(pareto_front(results))} of {len(results)} on the front"
    panels.append(
        panel_of("rung-end", "At the end", end, f"At the end: {end}.", end_figure(results, span_mib))
    )
    words = METRICS[metric_shared(judged)]
    note = f"The trials that reached each rung, by {words} so far and memory, and those that stopped there."
    return Section(id="rungs", title="Stopped early", note=note, panels=panels, columns=3)


def _curves(results: Sequence[Trial], rows: Rows) -> Section | None:
    front = [result for result in pareto_front(results) if rows.get(result.name)]
    if not front:
        return None
    best_first = sorted(front, key=lambda result: -result.score)
    named = {r.name: f"{r.name} {r.params.get('method', '')}".strip() for r in best_first[:MOST_NAMED]}
    of_front = {result.name: rows[result.name] for result in front}
    metric = metric_shared(front)
    note = "The trials of the front: validation thick, training thin."
    if metric != "accuracy_top1":
        note += f" Of training images the loss alone is shown: their {METRICS[metric]} is not recorded."
    if len(front) > MOST_NAMED:
        note += (
            f" The {MOST_NAMED} most accurate have a colour, the other {len(front) - MOST_NAMED} are grey."
        )
    panels = [
        panel_of(
            f"curves-{measure}",
            title,
            "",
            f"{title} of {len(front)} trials by epoch.",
            curves_figure(measure, of_front, named),
        )
        for measure, title in ((metric, capitalized(METRICS[metric])), ("loss", "Loss"))
    ]
    return Section(id="curves", title="Epoch by epoch", note=note, panels=panels, columns=2)


def _memory(results: Sequence[Trial], rows: Rows) -> Section | None:
    panels = []
    measured, processes = largest_of("measured_peak_mib", rows), largest_of("process_peak_mib", rows)
    predicted = {r.name: r.trained_memory_mib for r in results}
    off = {t: measured[t] / predicted[t] - 1 for t in measured if t in predicted}
    if off:
        inside = sum(abs(share) <= BAND for share in off.values())
        worst = max(off, key=lambda trial: abs(off[trial]))
        largest = "below 0.1%" if abs(off[worst]) < 0.0005 else f"{off[worst]:+.1%} ({worst})"
        note = f"{inside} of {len(off)} within {BAND:.0%}; the largest difference: {largest}."
        figure = predicted_measured_figure(predicted, measured)
        title = "Predicted against measured"
        panels.append(panel_of("measured", title, note, f"{title} memory: {note}", figure))
    front = [trial for trial in pareto_front(results) if trial.curve]
    if front:
        title = "Plans of the front"
        note = "Each line is a configuration; a mark, a plan; all give one gradient. Large: the front's own."
        alt = f"Memory against slowdown of the plans of {len(front)} configurations."
        panels.append(panel_of("plans", title, note, alt, plans_figure(front)))
    timed = [trial for trial in results if known(trial.epoch_time_s) is not None]
    if timed:
        title = "Memory against time"
        note = "As trained: seconds per epoch, with as many trials beside each other as ran then."
        if len(timed) < len(results):
            note += f" {len(results) - len(timed)} read features that another trial had computed: no time."
        alt = f"Seconds per epoch against memory of {len(timed)} trials; the table has the figures."
        panels.append(panel_of("time", title, note, alt, time_figure(results)))
    if not panels:
        return None
    words = []
    if off:
        words.append("Predicted is what the search uses; measured is the allocator's count in training.")
    if processes:
        least, most = min(processes.values()), max(processes.values())
        words.append(
            "A worker's whole process, with PyTorch, the images and the trials that it had before, peaked at "
            f"{least:,.0f} to {most:,.0f} MiB."
        )
    return Section(id="memory", title="Memory", note=" ".join(words), panels=panels, columns=2)


def _by_importance(shares: Mapping[str, Mapping[str, float]], parameters: Sequence[str]) -> list[str]:
    def largest(name: str) -> float:
        return max((own.get(name, 0.0) for own in shares.values()), default=0.0)

    return sorted(dict.fromkeys(parameters), key=largest, reverse=True)


def panel_of(id: str, title: str, note: str, alt: str, figure: go.Figure) -> Panel:
    """Returns a figure with its words; its JSON is safe inside a script element."""
    # A script element ends at the first end tag, even inside a text: no user's text may hold one.
    text = json.dumps(json.loads(figure.to_json()), separators=(",", ":")).replace("<", "\\u003c")
    return Panel(id=id, title=title, note=note, alt=alt, figure=text, height=figure.layout.height)
