import json
import math
from dataclasses import replace

import pytest
from optuna.distributions import CategoricalDistribution

from tuner.record.reading import StudyReading
from tuner.record.trials import Trial
from tuner.report.panels import LEAST_TRIALS, front_panels, sections


@pytest.fixture
def study():
    """Three complete trials, two on the front, and one that was stopped at the first rung."""
    norm = {"norm": CategoricalDistribution(["gn", "bn"])}
    trials = [
        Trial(
            name=f"a-{index}",
            params={"norm": value},
            distributions=norm,
            accuracy_top1=accuracy,
            peak_memory_mib=mib,
            epoch_time_s=1.0,
            rungs={1: accuracy - 0.1},
        )
        for index, (accuracy, mib, value) in enumerate(
            [(0.5, 10.0, "gn"), (0.4, 20.0, "bn"), (0.7, 40.0, "gn")]
        )
    ]
    stopped = Trial(
        name="a-3", state="pruned", params={"norm": "bn"}, rungs={1: 0.1}, stopped_at=1, peak_memory_mib=30.0
    )
    return StudyReading(name="a", trials=[*trials, stopped], budget_mib=35.0)


def test_the_front_is_told_in_words_too(study):
    panel, over_time = front_panels(study)
    assert panel.alt.startswith(
        "Accuracy against memory of 3 trials. The front has 2, from accuracy 0.500 in 10.0"
    )
    traces = json.loads(panel.figure)["data"]
    assert traces[-1]["customdata"] == ["a-0"], "the ring is around the best within the budget"
    assert "1 s per epoch" in over_time.alt and "shapes" not in json.loads(over_time.figure)["layout"]
    untimed = [replace(trial, epoch_time_s=math.nan) for trial in study.trials]
    assert [panel.id for panel in front_panels(replace(study, trials=untimed))] == ["front"]
    assert front_panels(StudyReading(name="a")) == []


def test_a_parameter_has_a_panel_once_enough_trials_have_it(study):
    few = {section.id: section for section in sections(study, {})}["slices"]
    assert not few.panels
    shown = f"A parameter is shown once {LEAST_TRIALS} complete trials have it"
    assert few.note == f"{shown}; fewer have norm (3)."
    more = [replace(trial, name=f"{trial.name}-{turn}") for turn in range(2) for trial in study.trials]
    found = {section.id: section for section in sections(replace(study, trials=more), {})}
    assert [panel.title for panel in found["slices"].panels] == ["norm"]
    (together,) = found["parallel"].panels
    assert together.min_width and together.choices[0] == ("all", [])


def test_curves_are_of_the_metric(study):
    trials = [replace(t, metric="macro_f1", macro_f1=t.accuracy_top1) for t in study.trials]
    rows = {"a-0": [{"epoch": 1, "accuracy_top1": 0.5, "macro_f1": 0.4, "loss": 1.0}]}
    other = replace(study, trials=trials, attributes={"settings": {"metric": "macro_f1"}})
    curves = {section.id: section for section in sections(other, rows)}["curves"]
    assert [panel.title for panel in curves.panels] == ["Macro F1", "Loss"]
    assert json.loads(curves.panels[0].figure)["data"][0]["y"] == [0.4]


def test_sections_are_those_for_which_there_is_data(study):
    found = {section.id: section for section in sections(study, {})}
    assert list(found) == ["importance", "slices", "rungs", "memory"]
    assert "3 are" in found["importance"].note and not found["importance"].panels
    rung, end = found["rungs"].panels
    assert (rung.title, rung.note, end.note) == ("After 1 epoch", "1 of 4 stopped", "2 of 3 on the front")
    assert "process" not in found["memory"].note
    row = {"epoch": 1, "accuracy_top1": 0.5, "loss": 1.0, "measured_peak_mib": 10.5}
    rows = {"a-0": [row | {"process_peak_mib": 900.4}], "a-1": [{"process_peak_mib": 1020.0}]}
    with_rows = {section.id: section for section in sections(study, rows)}
    assert [panel.id for panel in with_rows["curves"].panels] == ["curves-accuracy_top1", "curves-loss"]
    assert with_rows["memory"].note.endswith("peaked at 900 to 1,020 MiB.")
    measured = with_rows["memory"].panels[0]
    assert measured.note == "1 of 1 within 10%; the largest difference: +5.0% (a-0)."


def test_trials_without_a_time_are_counted_and_not_drawn(study):
    def memory(*without: str):
        trials = [
            replace(trial, epoch_time_s=math.nan) if trial.name in without else trial
            for trial in study.trials
        ]
        return {p.id: p for s in sections(replace(study, trials=trials), {}) for p in s.panels}.get("time")

    panel = memory("a-1")
    assert panel.note.endswith(" 1 read features that another trial had computed: no time.")
    assert "read features" not in memory().note
    assert memory("a-0", "a-1", "a-2") is None


def test_what_all_trials_have_is_told_once():
    trials = [
        Trial(name=name, params={"norm": "gn"}, accuracy_top1=0.5, peak_memory_mib=mib, epoch_time_s=1.0)
        for name, mib in (("a", 10.0), ("b", 20.0))
    ]
    ids = [section.id for section in sections(StudyReading(name="s", trials=trials), {})]
    assert ids == ["importance", "memory"], "nothing varies, nobody was judged at a rung"
