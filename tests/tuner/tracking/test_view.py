import json
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest

from tuner.tracking.view import (
    PARAMETERS_SHOWN,
    charts_path,
    front_path,
    runs_path,
    shared_views,
    view_path,
)


def views_of(*params, **more):
    rows = [{"trial": f"s-{index:03d}", "params": own} | more for index, own in enumerate(params)]
    study = SimpleNamespace(metric="accuracy_top1")
    tags = shared_views(SimpleNamespace(study=study, labels=SimpleNamespace(name="s"), rows=rows))
    assert list(tags) == ["mlflow.sharedViewState.s", "mlflow.sharedViewState.s/charts"]
    return [json.loads(tag) for tag in tags.values()]


def test_paths_lead_to_the_views_by_their_keys():
    for path, key in ((view_path("s", "7"), "s"), (charts_path("s", "7"), "s/charts")):
        fragment = urlsplit(path).fragment
        assert fragment.startswith("/experiments/7/runs?")
        assert parse_qs(urlsplit(fragment).query)["viewStateShareKey"] == [key]
    query = parse_qs(urlsplit(urlsplit(runs_path("s", "7")).fragment).query)
    assert query["searchFilter"] == ['tags.study = "s"']
    compared = parse_qs(urlsplit(urlsplit(front_path(["a", "b"], "7")).fragment).query)
    assert json.loads(compared["runs"][0]) == ["a", "b"]


@pytest.mark.parametrize(
    ("params", "shown"),
    [
        # A number is shown as the metric that sorts, a word as the parameter.
        (({"lr": 0.1, "norm": "gn"}, {"lr": 0.2, "norm": "bn"}), ["params.`norm`", "metrics.`searched/lr`"]),
        # What is the same in all, or what one lacks, has no column.
        (({"lr": 0.1, "norm": "gn"}, {"lr": 0.1}), []),
        (({"flip": True}, {"flip": False}), ["params.`flip`"]),
        ((), []),
    ],
)
def test_columns_are_what_varies(params, shown):
    table, charts = views_of(*params)
    searched = [c for c in table["selectedColumns"] if c.startswith("params") or "searched" in c]
    assert searched == shown and charts["selectedColumns"] == table["selectedColumns"]


def test_accuracies_from_after_the_search_have_columns():
    table, _ = views_of(
        {"lr": 0.1}, test_accuracy_top1=0.5, confirmed_accuracy_top1=0.4, confirmed_deviation=0.1
    )
    assert table["selectedColumns"][:4] == [
        "metrics.`accuracy_top1`",
        "metrics.`confirmed_accuracy_top1`",
        "metrics.`test_accuracy_top1`",
        "metrics.`peak_memory_mib`",
    ]


def test_a_chart_has_few_axes():
    many = [{f"p{i}": i + index for i in range(20)} for index in range(2)]
    charts = views_of(*many)[1]["compareRunCharts"]
    (parallel,) = [chart for chart in charts if chart["type"] == "PARALLEL"]
    assert len(parallel["selectedParams"]) == PARAMETERS_SHOWN
