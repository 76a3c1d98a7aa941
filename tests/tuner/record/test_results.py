import random

import numpy as np
import pytest
from optuna._hypervolume import compute_hypervolume

from tuner.record.results import best_under, hypervolume, pareto_front
from tuner.record.trials import Trial


def result(trial: str, accuracy: float, memory: float) -> Trial:
    return Trial(name=trial, accuracy_top1=accuracy, peak_memory_mib=memory, epoch_time_s=1.0, params={})


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
    assert [r.name for r in pareto_front([result(*point) for point in points])] == front


def test_the_best_under_a_budget():
    points = [result("a", 0.5, 10), result("b", 0.7, 20), result("c", 0.7, 15), result("d", 0.9, 30)]
    assert best_under(points, 25).name == "c"
    assert best_under(points, 5) is None
    assert best_under(points, None).name == "d"


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
