"""A study's views in MLflow's pages, each at an address: its trials by accuracy, and as charts.

MLflow keeps shared views as tags of the experiment; these are two of them. A version of MLflow that reads
such tags differently shows its own table. Charts show the 100 runs that MLflow loads first: the front's come
before all others.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from tinytl.config.names import METRICS
from tuner.findings.text import capitalized
from tuner.tracking.runs import SEARCHED
from tuner.tracking.summary import StudySummary

TAG_PREFIX = "mlflow.sharedViewState."
SECTION = "study"
PARAMETERS_SHOWN = 6
"""Most axes of the parallel coordinates beside accuracy and memory."""
MEMORY = "peak_memory_mib"
FRONT = "tags.`on_front`"
CHARTS = "/charts"
"""Follows a study's name, which cannot hold this character."""

TRAINING = "workflowType=machine_learning"
"""Else MLflow's pages are those for language models: traces, of which a study has none."""

OURS = {"isReordered": False, "deleted": False, "isGenerated": False}


def view_path(study: str, experiment_id: str) -> str:
    """Returns the address, relative to the server, of the trials by accuracy."""
    return _path(study, experiment_id, "TABLE")


def charts_path(study: str, experiment_id: str) -> str:
    """Returns the address, relative to the server, of the charts."""
    return _path(study + CHARTS, experiment_id, "CHART")


def runs_path(study: str, experiment_id: str) -> str:
    """Returns the address, relative to the server, of the study's run with those of its trials below it."""
    wanted = quote(f'tags.study = "{study}"')
    order = "orderByKey=attributes.start_time&orderByAsc=false"  # in any other order MLflow shows no tree
    return f"#/experiments/{experiment_id}/runs?searchFilter={wanted}&{order}&startTime=ALL&{TRAINING}"


def _path(key: str, experiment_id: str, mode: str) -> str:
    view = f"viewStateShareKey={quote(key)}&compareRunsMode={mode}"
    return f"#/experiments/{experiment_id}/runs?{view}&{TRAINING}"


def front_path(run_ids: Sequence[str], experiment_id: str) -> str:
    """Returns the address, relative to the server, of the page that compares these runs."""
    runs, experiments = json.dumps(list(run_ids)), json.dumps([experiment_id])
    return f"#/compare-runs?runs={quote(runs)}&experiments={quote(experiments)}"


def shared_views(summary: StudySummary) -> dict[str, str]:
    """Returns the experiment's tags that hold a study's views."""
    name = TAG_PREFIX + summary.labels.name
    return {name: _view(summary, f"metrics.`{summary.study.metric}`"), name + CHARTS: _view(summary, FRONT)}


def _view(summary: StudySummary, order_by: str) -> str:
    """Returns a tag's value: the study's trials in falling order, with what was searched."""
    varied, metric = _varied(summary.rows), summary.study.metric
    numbers = [name for name, numeric in varied.items() if numeric]
    judged = sorted(
        {key for row in summary.rows for key in row if key in (f"test_{metric}", f"confirmed_{metric}")}
    )
    columns = [
        *(f"metrics.`{key}`" for key in (metric, *judged, MEMORY)),
        FRONT,
        "tags.`state`",
        *(f"params.`{name}`" for name, numeric in varied.items() if not numeric),
        *(f"metrics.`{SEARCHED}{name}`" for name in numbers),
    ]
    view = {
        "searchFilter": f'tags.study = "{summary.labels.name}" and tags.kind = "trial"',
        "orderByKey": order_by,
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "selectedColumns": columns,
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": _charts(metric, list(varied)[:PARAMETERS_SHOWN]),
        "compareRunSections": [
            {"uuid": SECTION, "name": "Study", "display": True} | OURS,
            {"uuid": "searched", "name": SEARCHED.rstrip("/"), "display": False} | OURS,
        ],
        "isAccordionReordered": True,  # else MLflow puts its own charts before these
        "hideEmptyCharts": True,
    }
    return json.dumps(view, separators=(",", ":"))


def _varied(rows: Sequence[Mapping[str, Any]]) -> dict[str, bool]:
    """Returns the searched parameters that all trials have and that vary, and whether each is a number.

    A chart leaves out a trial that lacks one.
    """
    own = [row["params"] for row in rows]
    names = [name for name in (own[0] if own else {}) if all(params.get(name) is not None for params in own)]
    found = {}
    for name in names:
        values = [params[name] for params in own]
        if len(set(map(str, values))) > 1:
            found[name] = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    return found


def _charts(metric: str, parameters: Sequence[str]) -> list[dict[str, Any]]:
    words = capitalized(METRICS[metric])
    common = {"runsCountToCompare": 100, "metricSectionId": SECTION} | OURS
    return [
        common
        | {"uuid": "scatter", "type": "SCATTER", "displayName": f"{words} against memory"}
        | {"xaxis": _axis(MEMORY), "yaxis": _axis(metric)},
        common
        | {"uuid": "parallel", "type": "PARALLEL", "displayName": "What was searched"}
        | {"selectedParams": list(parameters), "selectedMetrics": [MEMORY, metric], "showAllRuns": True},
        common
        | {"uuid": "curves", "type": "LINE", "displayName": f"{words} by epoch", "metricKey": metric}
        | {"selectedMetricKeys": [metric], "xAxisKey": "step", "useGlobalXaxisKey": False},
    ]


def _axis(metric: str) -> dict[str, str]:
    return {"key": metric, "type": "METRIC"}
