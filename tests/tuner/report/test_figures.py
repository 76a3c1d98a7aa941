import dataclasses

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from tuner.findings.importance import Importance
from tuner.record.trials import Trial
from tuner.report.figures import (
    TRAIN_ACCURACY,
    curves_figure,
    importance_figure,
    rung_figure,
    slice_figure,
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


def test_labels_of_a_slice_fit_beside_each_other(results):
    nets = ["timm/tf_efficientnet_lite1", "torchvision/mnasnet0_5", "timm/tf_efficientnet_lite1"]
    named = [
        dataclasses.replace(one, params={"backbone": net, "lr": lr})
        for one, net, lr in zip(results, nets, (0.00013, 0.0021, 0.0004), strict=True)
    ]
    figure = slice_figure("backbone", named, CategoricalDistribution(nets))
    assert list(figure.layout.xaxis2.ticktext) == ["tf_effic…t_lite1", "mnasnet0_5"]
    axis = slice_figure("lr", named, FloatDistribution(1e-4, 1e-2, log=True)).layout.xaxis2
    assert len(axis.ticktext) > 1 and sum(map(len, axis.ticktext)) <= 24 and axis.tickangle == 0


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


def test_bars_of_both_objectives_with_strokes_that_end_at_zero(results):
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
    assert list(figure.data[1].error_x.arrayminus) == [0.0, 0.2]


def test_curves_are_of_the_metric_of_the_study_and_training_has_top_1_alone():
    rows = {"a": [{"epoch": 1, "macro_f1": 0.3, "accuracy_top1": 0.6, TRAIN_ACCURACY: 0.7, "loss": 1.0}]}
    (curve,) = curves_figure("macro_f1", rows, {"a": "a"}).data
    assert list(curve.y) == [0.3] and "validation macro F1 0.300" in curve.hovertext[0]
    validation, training = curves_figure("accuracy_top1", rows, {"a": "a"}).data
    assert (list(validation.y), list(training.y)) == ([0.6], [0.7])
