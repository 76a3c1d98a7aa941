import dataclasses
import math

import pytest

from tuner.pictures.interactive import TIME_COST, front_figure, memory_axis
from tuner.record.trials import Trial


def result(name, accuracy, mib):
    return Trial(name=name, accuracy_top1=accuracy, peak_memory_mib=mib, epoch_time_s=1.0, params={"lr": 0.1})


@pytest.fixture
def results():
    return [result("a-000", 0.5, 10.0), result("a-001", 0.4, 20.0), result("a-002", 0.7, 40.0)]


def test_the_front_is_a_line_of_its_own_with_every_trial_s_figures_over_its_dot(results):
    others, front = front_figure(results, "colors", None).data
    assert list(others.x) == [20.0] and list(front.x) == [10.0, 40.0] and list(front.y) == [0.5, 0.7]
    assert front.customdata[1] == "a-002"
    assert front.hovertext[1] == "<b>a-002</b><br>accuracy 0.700 · 40.0 MiB · epoch 1.0 s<br>lr 0.1"


def test_a_budget_is_a_line_and_wide_memory_has_a_log_axis(results):
    figure = front_figure(results, "colors", 35.0)
    assert figure.layout.shapes[0].x0 == 35.0 and "35 MiB" in figure.layout.annotations[0].text
    assert figure.layout.xaxis.type == "log"
    # On a log axis a shape's place is a value, an annotation's its logarithm.
    assert figure.layout.annotations[0].x == pytest.approx(math.log10(35))
    plain = front_figure(results[:2], "colors", 15.0).layout
    assert plain.xaxis.type == "linear" and plain.annotations[0].x == 15.0


def test_the_best_has_a_ring_and_text_of_users_is_no_markup(results):
    figure = front_figure([*results, result("a-003", 0.6, 30.0)], "<b>colors", None, best="a-002")
    assert list(figure.data[2].x) == [40.0]
    assert figure.layout.title.text == "&lt;b&gt;colors"
    odd = Trial(
        name="a-000", accuracy_top1=0.5, peak_memory_mib=1.0, epoch_time_s=1.0, params={"method": "<i>"}
    )
    drawn = front_figure([odd], "", None).data[1]
    assert drawn.text[0] == "&lt;i&gt;" and "method &lt;i&gt;" in drawn.hovertext[0]


@pytest.mark.parametrize(
    ("low", "high"), [(10.0, 29.0), (10.0, 40.0), (1.0, 90.0), (1e-4, 1e-1), (1e-9, 1.0)]
)
def test_a_log_axis_has_a_few_round_ticks_within_its_range(low, high):
    axis = memory_axis([low, high], "MiB")
    if high / low < 3:
        assert axis["type"] == "linear"
        return
    assert 3 <= len(axis["tickvals"]) <= 12
    assert 10 ** axis["range"][0] < low and 10 ** axis["range"][1] > high


def test_baselines_are_marked_and_errors_are_strokes(results):
    baseline = dataclasses.replace(results[1], source="baseline user<b>", standard_error=0.03)
    _, front, marked = front_figure([results[0], baseline, results[2]], "", None).data
    assert list(marked.customdata) == ["a-001"] and marked.text == ("user&lt;b&gt;",)
    assert list(marked.error_y.array) == [0.03] and front.error_y.array is None
    known = [dataclasses.replace(r, standard_error=0.02) for r in results[:2]]
    assert list(front_figure([*known, results[2]], "", None).data[1].error_y.array) == [0.02, 0.0]


def test_over_time_the_front_is_another_one_without_a_budget(results):
    times = (5.0, 3.0, math.nan)
    timed = [dataclasses.replace(r, epoch_time_s=s) for r, s in zip(results, times, strict=True)]
    figure = front_figure(timed, "", 35.0, cost=TIME_COST)
    assert list(figure.data[1].x) == [3.0, 5.0] and list(figure.data[1].customdata) == ["a-001", "a-000"]
    assert not figure.layout.shapes
