import random

import numpy as np
import optuna
import pytest
from optuna._hypervolume import compute_hypervolume
from optuna.trial import TrialState

from tuner.record import results, schema
from tuner.record.results import TrialResult, best_under, hypervolume, pareto_front, read_status


def result(trial: str, accuracy: float, memory: float) -> TrialResult:
    return TrialResult(
        trial=trial, accuracy_top1=accuracy, peak_memory_mib=memory, epoch_time_s=1.0, params={}
    )


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([], []),
        ([("a", 0.5, 10)], ["a"]),
        ([("a", 0.5, 10), ("b", 0.6, 20), ("c", 0.55, 30)], ["a", "b"]),
        ([("a", 0.5, 10), ("b", 0.5, 20)], ["a"]),
        ([("a", 0.5, 10), ("b", 0.6, 10)], ["b"]),
        ([("a", 0.5, 10), ("b", 0.5, 10)], ["a"]),
        ([("a", 0.9, 30), ("b", 0.7, 20), ("c", 0.8, 20), ("d", 0.1, 5)], ["d", "c", "a"]),
    ],
)
def test_the_front_is_what_none_beats_in_both_by_rising_memory(points, front):
    assert [r.trial for r in pareto_front([result(*point) for point in points])] == front


def test_the_best_under_a_budget():
    points = [result("a", 0.5, 10), result("b", 0.7, 20), result("c", 0.7, 15), result("d", 0.9, 30)]
    assert best_under(points, 25).trial == "c"
    assert best_under(points, 5) is None
    assert best_under(points, None).trial == "d"


def test_the_hypervolume_of_two_steps():
    points = [result("a", 0.5, 10), result("b", 0.8, 30), result("beaten", 0.4, 20)]
    found = hypervolume(points, 40)
    # From 10 to 40 MiB accuracy 0.5, from 30 to 40 MiB 0.3 more.
    assert found.accuracy_mib == pytest.approx(30 * 0.5 + 10 * 0.3)
    assert (found.reference_mib, found.fraction) == (40, pytest.approx(18 / 40))


def test_without_a_budget_the_largest_complete_trial_is_the_reference():
    points = [result("a", 0.5, 10), result("b", 0.8, 30), result("beaten", 0.4, 50)]
    assert hypervolume(points, None) == hypervolume(points, 50)
    assert hypervolume([], None) is None


def test_trials_over_a_budget_that_was_lowered_add_nothing():
    points = [result("a", 0.5, 10), result("b", 0.8, 30)]
    assert hypervolume(points, 20) == hypervolume(points[:1], 20)
    assert hypervolume(points, 5).fraction == 0


@pytest.mark.parametrize("seed", range(20))
def test_hypervolumes_are_those_of_optuna(seed):
    rng = random.Random(seed)
    points = [result(str(i), rng.random(), rng.uniform(10, 100)) for i in range(rng.randint(1, 30))]
    losses = np.array([(-r.accuracy_top1, r.peak_memory_mib) for r in points])
    for budget in (None, 100.0):
        found = hypervolume(points, budget)
        reference = np.array([0.0, found.reference_mib])
        assert found.accuracy_mib == pytest.approx(compute_hypervolume(losses, reference))
        assert found.fraction == pytest.approx(found.accuracy_mib / found.reference_mib)


def make_trial(state, values=None, **attrs):
    return optuna.create_trial(state=state, values=values, user_attrs=attrs)


def test_status_counts_each_kind_of_trial_once():
    study = optuna.create_study(study_name="s", directions=["maximize", "minimize"])
    study.set_user_attr(schema.REQUESTED, 5)
    measured = {"peak_memory_mib": 20.0, "epoch_time_s": 2.0}
    for trial in (
        make_trial(TrialState.COMPLETE, [0.8, 20.0], name="s-000", **measured),
        make_trial(TrialState.COMPLETE, [0.7, 30.0], name="s-001", **(measured | {"peak_memory_mib": 30.0})),
        make_trial(TrialState.FAIL, name="s-002", failure="loss"),
        make_trial(TrialState.PRUNED, name="s-003", pruned_at=1, rungs={"1": 0.9}, peak_memory_mib=10.0),
        make_trial(TrialState.PRUNED, infeasible="99 MiB"),
        make_trial(TrialState.PRUNED, name="s-005", infeasible="out of memory", measured_need_mib=99.0),
        make_trial(TrialState.FAIL, name="s-004", **{schema.INTERRUPTED: True}),
        make_trial(TrialState.RUNNING, name="s-004"),
        make_trial(TrialState.WAITING),
    ):
        study.add_trial(trial)
    status = read_status(study)
    assert status.trials == {"complete": 2, "pruned": 1, "failed": 1, "infeasible": 2, "running": 1}
    assert results.ended_trials(status) == 4
    assert status.to_json() == {
        "study": "s",
        "requested": 5,
        "trials": status.trials,
        "pareto": [
            {
                "trial": "s-000",
                "accuracy_top1": 0.8,
                "peak_memory_mib": 20.0,
                "epoch_time_s": 2.0,
                "params": {},
            }
        ],
        # 10 MiB less than the largest, at accuracy 0.8.
        "hypervolume": {
            "accuracy_mib": pytest.approx(8),
            "reference_mib": 30.0,
            "fraction": pytest.approx(8 / 30),
        },
    }
    assert read_status(study, 40).hypervolume.reference_mib == 40


def test_a_search_for_accuracy_alone_has_no_hypervolume():
    study = optuna.create_study(direction="maximize")
    attrs = {"name": "s-000", "peak_memory_mib": 20.0, "epoch_time_s": 2.0}
    study.add_trial(make_trial(TrialState.COMPLETE, [0.8], **attrs))
    status = read_status(study)
    assert status.hypervolume is None and [r.trial for r in status.pareto] == ["s-000"]
