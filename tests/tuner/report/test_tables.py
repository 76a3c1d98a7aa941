import base64
import csv
import io
import math
from dataclasses import replace

import pytest

from tests.support.synthetic_study import CLASSES, write_study
from tuner.findings.difference import Difference
from tuner.findings.sureness import Sureness
from tuner.record.class_counts import ClassCounts, read_class_counts
from tuner.record.reading import StudyReading, open_study
from tuner.record.trials import Trial
from tuner.report.tables import baseline_rows, class_rows, csv_links, running_rows, trial_row


def read(address: str) -> list[dict[str, str]]:
    kind, _, data = address.partition(",")
    assert kind == "data:text/csv;charset=utf-8;base64"
    return list(csv.DictReader(io.StringIO(base64.b64decode(data).decode())))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_study(folder, "s", 12, 3, judged=True)
    return open_study("s", str(folder))


def test_each_table_is_whole_as_csv(study):
    links = csv_links(study, Sureness(study), read_class_counts(study.folder))
    trials, front = read(links["trials"]), read(links["front"])
    assert [row["trial"] for row in trials] == [trial.name for trial in study.trials]
    best = next(row for row in trials if row["trial"] == study.best.name)
    assert float(best["accuracy_top1"]) == study.best.accuracy_top1, "all digits"
    assert [row["trial"] for row in front] == [trial.name for trial in study.front]
    assert {row["baseline"] for row in read(links["baselines"])} == {"user_report", "tinytl_paper"}
    assert len(read(links["classes"])) == CLASSES


def test_a_study_without_baselines_and_classes_has_no_such_tables():
    alone = StudyReading(
        name="s", trials=[Trial(name="a", params={}, accuracy_top1=0.5, peak_memory_mib=1.0)]
    )
    assert set(csv_links(alone, Sureness(alone), None)) == {"trials", "front"}
    assert class_rows(None) == []


BASELINE = Trial(
    name="s-0", params={}, accuracy_top1=0.5, peak_memory_mib=40.0, standard_error=0.02, source="baseline b"
)


@pytest.mark.parametrize(
    ("trial", "gains", "expected"),
    [
        (BASELINE, {"b": Difference(0.06, 0.026)}, "6.0 ± 2.6 points"),
        (BASELINE, {"b": Difference(0.01, 0.026)}, "1.0 ± 2.6 points (not sure)"),
        (replace(BASELINE, peak_memory_mib=90.0), {}, "over the budget: not compared"),
        (replace(BASELINE, accuracy_top1=0.99), {}, "it is the best"),
        (replace(BASELINE, state="failed", failure="the loss is nan"), {}, "failed: the loss is nan"),
        (replace(BASELINE, state="pruned", stopped_at=1), {}, "stopped at epoch 1, with accuracy 0.500"),
    ],
)
def test_a_baseline_has_its_figures_and_what_the_search_gained(trial, gains, expected):
    better = Trial(name="s-1", params={}, accuracy_top1=0.6, peak_memory_mib=30.0)
    (row,) = baseline_rows(StudyReading(name="s", trials=[trial, better], budget_mib=60.0), gains)
    assert (row["state"] or row["gain"]) == expected
    if trial is BASELINE:
        assert (row["baseline"], row["accuracy"], row["memory"]) == ("b", "0.500 ± 0.020", "40.0")


def test_trials_that_run_have_the_metric_of_their_last_epoch():
    running = Trial(name="s-0", params={"lr": 0.1}, state="running")
    study = StudyReading(name="s", trials=[running, replace(running, name="s-1")])
    first, second = running_rows(study, {"s-0": [{"accuracy_top1": 0.25}, {"accuracy_top1": 0.5}]})
    assert first == {"label": "s-0", "epochs": "2", "score": "0.500", "params": "lr 0.1"}
    assert (second["epochs"], second["score"]) == ("0", "")


def test_errors_stand_in_a_column_that_sorts():
    epochs = [{"measured_peak_mib": 9.0, "process_peak_mib": 900.4}, {"process_peak_mib": 1000.0}]
    figures = trial_row(BASELINE, [], epochs)["figures"]
    assert figures[:3] == ["0.5000", "0.0200", "40.0"]
    assert figures[5:7] == ["9.0", "1000"] and figures[-1] == "2"
    assert trial_row(replace(BASELINE, standard_error=math.nan), [], epochs)["figures"][1] == ""


def test_classes_have_their_images_in_each_split():
    counts = ClassCounts(names=["a", "b"], images={"train": [3, 4], "val": [1, 2]})
    assert class_rows(counts) == [{"class": "a", "train": 3, "val": 1}, {"class": "b", "train": 4, "val": 2}]
