import optuna
import pytest
from optuna.trial import TrialState

from tuner import results
from tuner.results import TrialResult, best_under, pareto_front, read_status


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


def make_trial(state, values=None, **attrs):
    return optuna.create_trial(state=state, values=values, user_attrs=attrs)


def test_status_counts_each_kind_of_trial_once():
    study = optuna.create_study(study_name="s", directions=["maximize", "minimize"])
    study.set_user_attr(results.REQUESTED, 5)
    measured = {"peak_memory_mib": 20.0, "epoch_time_s": 2.0}
    for trial in (
        make_trial(TrialState.COMPLETE, [0.8, 20.0], name="s-000", **measured),
        make_trial(TrialState.COMPLETE, [0.7, 30.0], name="s-001", **(measured | {"peak_memory_mib": 30.0})),
        make_trial(TrialState.FAIL, name="s-002", failure="loss"),
        make_trial(TrialState.PRUNED, name="s-003"),
        make_trial(TrialState.PRUNED, infeasible="99 MiB"),
        make_trial(TrialState.FAIL, name="s-004", **{results.INTERRUPTED: True}),
        make_trial(TrialState.RUNNING, name="s-004"),
        make_trial(TrialState.WAITING),
    ):
        study.add_trial(trial)
    status = read_status(study)
    assert status.trials == {"complete": 2, "pruned": 1, "failed": 1, "infeasible": 1, "running": 1}
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
    }
