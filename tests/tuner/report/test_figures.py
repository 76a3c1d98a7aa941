import dataclasses
import math

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from tinytl.config.plan import Plan
from tuner.findings.importance import Importance
from tuner.record.trials import Trial
from tuner.report.figures import (
    curves_figure,
    importance_figure,
    plans_figure,
    predicted_measured_figure,
    rung_figure,
    slice_figure,
    time_figure,
)


@pytest.fixture
def results():
    return [
        Trial(
            name=f"a-{i}",
            accuracy_top1=accuracy,
            peak_memory_mib=mib,
            epoch_time_s=2.0 + i,
            params={"lr": 10.0**-i, "norm": norm} | ({} if i == 2 else {"n_groups": 2 * i + 1}),
        )
        for i, (accuracy, mib, norm) in enumerate([(0.5, 10.0, "gn"), (0.4, 20.0, "bn"), (0.7, 40.0, "gn")])
    ]


def test_names_have_columns_with_medians_in_a_slice(results):
    figure = slice_figure("norm", results, CategoricalDistribution(["bn", "gn"]))
    others, front, medians = figure.data[:3]
    assert list(figure.layout.xaxis2.ticktext) == ["bn", "gn"]
    assert list(others.customdata) == ["a-1"] and list(front.customdata) == ["a-0", "a-2"]
    assert [round(x) for x in front.x] == [1, 1] and abs(others.x[0]) < 0.3
    assert medians.y[:2] == (0.6, 0.6), "between 0.5 and 0.7 of gn"
    assert list(figure.data[4].y) == [10.0, 40.0], "memory below"


def test_a_slice_has_the_scale_of_the_space_and_only_trials_that_have_it(results):
    figure = slice_figure("lr", results, FloatDistribution(1e-4, 1.0, log=True))
    assert figure.layout.xaxis2.type == "log" and len(figure.data) == 4
    having = slice_figure("n_groups", results, CategoricalDistribution([1, 2, 3]))
    assert [list(trace.customdata) for trace in having.data[:2]] == [["a-1"], ["a-0"]]


def test_a_rung_tells_who_was_stopped():
    trials = [
        Trial(name=name, params={}, state=state, rungs={1: 0.5}, peak_memory_mib=mib, stopped_at=stopped_at)
        for name, mib, state, stopped_at in (("a", 10.0, "complete", None), ("b", 20.0, "pruned", 1))
    ]
    on, gone = rung_figure(trials, 1, [10.0, 20.0]).data
    assert (list(on.customdata), list(gone.customdata)) == (["a"], ["b"])
    assert "after 1 epoch ·" in on.hovertext[0] and gone.hovertext[0].endswith("stopped")


def test_curves_leave_out_what_is_no_number_and_mute_the_unnamed():
    rows = {
        "a": [
            {"epoch": 1, "val_loss": 2.0, "loss": 3.0},
            {"epoch": 2, "val_loss": float("nan"), "loss": "?"},
        ],
        "b": [{"epoch": 1, "val_loss": 1.0}],
    }
    muted, validation, training = curves_figure("loss", rows, {"a": "a FT-Last"}).data
    assert (muted.showlegend, list(muted.y)) == (False, [1.0])
    assert (validation.name, list(validation.x), list(training.y)) == ("a FT-Last", [1], [3.0])


def test_measured_memory_stands_beside_its_prediction():
    figure = predicted_measured_figure({"a": 10.0, "b": 20.0}, {"b": 22.0, "unknown": 5.0})
    dots = figure.data[-1]
    assert (list(dots.x), list(dots.y), dots.hovertext[0]) == (
        [20.0],
        [22.0],
        "<b>b</b><br>predicted 20.0 MiB, measured 22.0 MiB (+10.0%)",
    )
    assert figure.data[0].y[0] == pytest.approx(0.9 * figure.data[0].x[0])


def test_bars_of_both_objectives_and_time(results):
    figure = importance_figure(
        {
            "accuracy_top1": Importance({"lr": 0.9}, {"lr": 0.2}),
            "peak_memory_mib": Importance({"norm": 1.0}, {"norm": 0.0}),
        },
        ["lr", "norm"],
    )
    assert [(bar.name, list(bar.x)) for bar in figure.data] == [
        ("of memory", [1.0, 0.0]),
        ("of accuracy", [0.0, 0.9]),
    ]
    assert [list(bar.error_x.array) for bar in figure.data] == [[0.0, 0.0], [0.0, 0.2]]
    assert list(time_figure(results).data[1].y) == [2.0, 4.0]
    untimed = [dataclasses.replace(results[0], epoch_time_s=math.nan), *results[1:]]
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
