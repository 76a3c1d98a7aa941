"""The dashboard for Grafana: each metric that it asks for exists, and it can be imported anywhere."""

import json
import re

from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

from tests.support.places import ROOT
from tuner.cluster.metrics import METRICS, TRIALS

DASHBOARD = json.loads((ROOT / "docker/grafana/study.json").read_text())
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
TARGETS = [target for panel in DASHBOARD["panels"] for target in panel["targets"]]
QUERIES = [target["expr"] for target in TARGETS]


def test_the_dashboard_asks_for_metrics_that_exist():
    asked = set(re.findall(r"\bray_(\w+)", "\n".join(QUERIES)))
    assert {name for name in asked if name.startswith("tinytl_")} == set(METRICS)
    of_ray = asked - set(METRICS)
    assert of_ray <= set(METRICS_GAUGES)
    assert {name.split("_")[1] for name in of_ray} == {"cpu", "mem", "gpus", "gram"}


def test_the_dashboard_names_no_data_source_of_its_own():
    assert (
        VARIABLES["datasource"]["type"] == "datasource" and VARIABLES["datasource"]["query"] == "prometheus"
    )
    assert VARIABLES["study"]["query"]["query"] == f"label_values(ray_{TRIALS}, study)"
    asked = [*DASHBOARD["panels"], *TARGETS, VARIABLES["study"]]
    assert all(part["datasource"] == {"type": "prometheus", "uid": "${datasource}"} for part in asked)
    of_a_study = [query for query in QUERIES if "tinytl" in query]
    assert of_a_study and all('{study=~"$study"}' in query for query in of_a_study)
