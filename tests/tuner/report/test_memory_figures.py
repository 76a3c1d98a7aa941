import math
from dataclasses import replace

import pytest

from tinytl.config.plan import Plan
from tuner.record.trials import Trial
from tuner.report.memory_figures import plans_figure, predicted_measured_figure, time_figure


def test_measured_memory_stands_beside_its_prediction():
    figure = predicted_measured_figure({"a": 10.0, "b": 20.0}, {"b": 22.0, "unknown": 5.0})
    dots = figure.data[-1]
    assert (list(dots.x), list(dots.y), dots.hovertext[0]) == (
        [20.0],
        [22.0],
        "<b>b</b><br>predicted 20.0 MiB, measured 22.0 MiB (+10.0%)",
    )
    assert figure.data[0].y[0] == pytest.approx(0.9 * figure.data[0].x[0])


def test_a_trial_without_a_time_is_left_out():
    results = [
        Trial(name=f"a-{i}", params={}, accuracy_top1=0.1 * i, peak_memory_mib=10.0 * i, epoch_time_s=2.0 + i)
        for i in (1, 2)
    ]
    assert list(time_figure(results).data[1].y) == [3.0, 4.0]
    untimed = [replace(results[0], epoch_time_s=math.nan), results[1]]
    assert list(time_figure(untimed).data[1].y) == [4.0]


def test_each_plan_of_the_front_is_a_mark_and_the_one_of_the_front_is_large():
    curve = [
        Plan(
            micro_batch_size=n, checkpoint="none", stock_below_kib=0.0, peak_memory_mib=mib, slowdown=slowdown
        )
        for n, mib, slowdown in [(8, 40.0, 1.0), (4, 25.0, 1.5), (1, 20.0, 4.0)]
    ]
    with_plans = Trial(name="a<b>", params={}, peak_memory_mib=25.0, curve=curve)
    figure = plans_figure([with_plans, Trial(name="old", params={}, peak_memory_mib=9.0)])
    (line,) = figure.data
    assert (list(line.x), list(line.y)) == ([1.0, 1.5, 4.0], [40.0, 25.0, 20.0])
    assert list(line.marker.size) == [5, 11, 5]
    assert line.hovertext[1] == "<b>a&lt;b&gt;</b><br>25.0 MiB x 1.50<br>4 at a time, nothing recomputed"
