"""What a study puts on Ray's metrics page. tests/integration/test_study.py reads the page itself."""

import json
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tuner.cluster import metrics
from tuner.cluster.metrics import METRICS, StudyMetrics
from tuner.record import schema
from tuner.record.reading import StudyReading
from tuner.record.trials import Trial


class Page(dict):
    """Ray's metrics as this process gives them: figures by name and state."""

    def metric(self, name, description, tag_keys):
        return Metric(self, name, tag_keys)


class Metric:
    def __init__(self, page, name, tag_keys):
        assert name in METRICS
        self.page, self.name, self.tag_keys = page, name, tag_keys

    def set_default_tags(self, tags):
        assert tags == {"study": "s"}
        return self

    def set(self, value, tags=None):
        assert self.tag_keys == ("study", *(tags or {}))
        self.page[" ".join((self.name.removeprefix("tinytl_study_"), *(tags or {}).values()))] = value

    def inc(self, value):
        assert value > 0
        self.set(self.page.get(self.name.removeprefix("tinytl_study_"), 0) + value)


@pytest.fixture
def page(monkeypatch):
    page = Page()
    monkeypatch.setattr(metrics, "Gauge", page.metric)
    monkeypatch.setattr(metrics, "Counter", page.metric)
    return page


@pytest.fixture
def follow(page):
    with ExitStack() as stack:

        def begin(past, folder=Path("nowhere"), refused=0):
            study = StudyMetrics(past, folder, 30.0, lambda: refused)
            stack.callback(study.close)
            return study

        yield begin


def train(study, name, epochs, state="complete", accuracy=0.5, memory=20.0):
    study.trial_started(name, {}, {}, None)
    for epoch in range(1, epochs + 1):
        row = {"epoch": epoch, "accuracy_top1": accuracy, "peak_memory_mib": memory}
        study.epoch_ended(name, row)
    study.trial_ended(name, state, None)


def states(page):
    return {state: page[f"trials {state}"] for state in schema.STATES}


def test_a_new_study_has_no_trials_and_no_accuracy(page, follow):
    follow(StudyReading(name="s"))
    assert set(states(page).values()) == {0} and page["front_trials"] == 0
    assert "best_accuracy_ratio" not in page and "epochs_total" not in page


def test_trials_are_counted_and_the_best_is_within_the_budget(page, follow):
    study = follow(StudyReading(name="s"), refused=2)
    train(study, "s-000", 4, accuracy=0.5, memory=20.0)
    train(study, "s-001", 4, accuracy=0.9, memory=40.0)
    train(study, "s-002", 4, accuracy=0.4, memory=25.0)
    train(study, "s-003", 1, "pruned", accuracy=0.99)
    train(study, "s-004", 0, "failed")
    train(study, "s-005", 2, "infeasible", accuracy=0.99)
    study.trial_started("s-006", {}, {}, None)
    assert states(page) == {"complete": 3, "pruned": 1, "failed": 1, "infeasible": 3, "running": 1}
    assert (page["best_accuracy_ratio"], page["front_trials"], page["trained_epochs"]) == (0.5, 2, 15)
    assert page["epochs_total"] == 15


def test_a_study_that_is_cut_off_has_no_running_trials(page, follow):
    study = follow(StudyReading(name="s"))
    study.trial_started("s-000", {}, {}, None)
    assert page["trials running"] == 1
    study.close()
    assert page["trials running"] == 0


def test_figures_are_set_again_while_nothing_happens(page, follow, monkeypatch):
    monkeypatch.setattr(metrics, "REPEAT_S", 0.01)
    follow(StudyReading(name="s"))
    page.clear()
    deadline = time.monotonic() + 10
    while "front_trials" not in page and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(states(page).values()) == {0} and page["front_trials"] == 0


def test_a_resumed_study_starts_from_its_record_and_counts_no_epoch_twice(page, follow, tmp_path):
    trials = [
        Trial(name="s-000", params={}, accuracy_top1=0.7, peak_memory_mib=20.0),
        Trial(name="s-001", params={}, state="interrupted"),
    ]
    for trial, epochs in zip(trials, (3, 2), strict=True):
        (tmp_path / trial.name).mkdir()
        lines = [json.dumps({"epoch": epoch}) for epoch in range(1, epochs + 1)]
        (tmp_path / trial.name / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    past = StudyReading(name="s", states={"complete": 1, "interrupted": 1, "infeasible": 4}, trials=trials)
    study = follow(past, tmp_path)
    assert states(page) == {"complete": 1, "pruned": 0, "failed": 0, "infeasible": 4, "running": 0}
    assert (page["best_accuracy_ratio"], page["front_trials"], page["trained_epochs"]) == (0.7, 1, 5)
    assert "epochs_total" not in page  # a cluster still has those of the first driver
    study.trial_started("s-001", {}, {}, None)
    for epoch in (2, 3):
        study.epoch_ended("s-001", {"epoch": epoch, "accuracy_top1": 0.8, "peak_memory_mib": 25.0})
    study.trial_ended("s-001", "complete", None)
    assert (page["best_accuracy_ratio"], page["front_trials"], page["trained_epochs"]) == (0.8, 2, 6)
    assert page["epochs_total"] == 1
