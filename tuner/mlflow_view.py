"""A study's view of MLflow's pages: its trials by accuracy, as a table and as charts, at an address.

MLflow keeps views that users share as tags of the experiment; this is one. A version of MLflow that reads
them otherwise shows its own table.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from tuner.mlflow_study import SEARCHED
from tuner.mlflow_summary import StudySummary

TAG_PREFIX = "mlflow.sharedViewState."
SECTION = "study"
PARAMETERS_SHOWN = 6
"""Axes of the parallel coordinates beside accuracy and memory."""
ACCURACY, MEMORY = "accuracy_top1", "peak_memory_mib"


OURS = {"isReordered": False, "deleted": False, "isGenerated": False}


def view_tag(study: str) -> str:
    """Returns the experiment's tag that holds a study's view."""
    return f"{TAG_PREFIX}{study}"


def view_path(study: str, experiment_id: str, *, charts: bool = False) -> str:
    """Returns a view's address behind that of the server."""
    mode = "CHART" if charts else "TABLE"
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={quote(study)}&compareRunsMode={mode}"


def front_path(run_ids: Sequence[str], experiment_id: str) -> str:
    """Returns the address, behind that of the server, of the page that compares these runs."""
    runs, experiments = json.dumps(list(run_ids)), json.dumps([experiment_id])
    return f"#/compare-runs?runs={quote(runs)}&experiments={quote(experiments)}"


def shared_view(summary: StudySummary) -> str:
    """Returns the tag's value: the study's trials, most accurate first, with what was searched."""
    varied = _varied(summary.rows)
    numbers = [name for name, numeric in varied.items() if numeric]
    judged = sorted(
        {key for row in summary.rows for key in row if key.startswith(("test_", "confirmed_acc"))}
    )
    columns = [
        *(f"metrics.`{key}`" for key in (ACCURACY, *judged, MEMORY)),
        "tags.`on_front`",
        "tags.`state`",
        *(f"params.`{name}`" for name, numeric in varied.items() if not numeric),
        *(f"metrics.`{SEARCHED}{name}`" for name in numbers),
    ]
    view = {
        "searchFilter": f'tags.study = "{summary.labels.name}" and tags.kind = "trial"',
        "orderByKey": f"metrics.`{ACCURACY}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "selectedColumns": columns,
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": _charts(list(varied)[:PARAMETERS_SHOWN]),
        "compareRunSections": [
            {"uuid": SECTION, "name": "Study", "display": True} | OURS,
            {"uuid": "searched", "name": SEARCHED.rstrip("/"), "display": False} | OURS,
        ],
        "isAccordionReordered": True,  # else MLflow puts its own before them
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


def _charts(parameters: Sequence[str]) -> list[dict[str, Any]]:
    common = {"runsCountToCompare": 100, "metricSectionId": SECTION} | OURS
    return [
        common
        | {"uuid": "scatter", "type": "SCATTER", "displayName": "Accuracy against memory"}
        | {"xaxis": _axis(MEMORY), "yaxis": _axis(ACCURACY)},
        common
        | {"uuid": "parallel", "type": "PARALLEL", "displayName": "What was searched"}
        | {"selectedParams": list(parameters), "selectedMetrics": [MEMORY, ACCURACY], "showAllRuns": True},
        common
        | {"uuid": "curves", "type": "LINE", "displayName": "Accuracy by epoch", "metricKey": ACCURACY}
        | {"selectedMetricKeys": [ACCURACY], "xAxisKey": "step", "useGlobalXaxisKey": False},
    ]


def _axis(metric: str) -> dict[str, str]:
    return {"key": metric, "type": "METRIC"}
