import pytest

from tuner.scheduler import Rungs


def judged(rule, reached, records=()):
    """Whether each of (accuracy, memory) goes on at rung 1, in the order of arrival."""
    rungs = Rungs(rule=rule, epochs=(1, 3), reduction_factor=3, records=records)
    return [rungs.goes_on(f"t{i}", 1, accuracy, memory) for i, (accuracy, memory) in enumerate(reached)]


@pytest.mark.parametrize(
    ("rule", "reached", "expected"),
    [
        # Nobody to compare with: the first goes on.
        ("pareto", [(0.1, 50)], [True]),
        ("asha", [(0.1, 50)], [True]),
        # Less accurate in more memory is beaten; in less memory it is not.
        ("pareto", [(0.5, 50), (0.4, 60), (0.4, 40)], [True, False, True]),
        # Equal in one and worse in the other is beaten; equal in both is not.
        ("pareto", [(0.5, 50), (0.5, 60), (0.4, 50), (0.5, 50)], [True, False, False, True]),
        # Accuracy alone: the best third, rounded up, whatever the memory.
        ("asha", [(0.5, 50), (0.4, 10), (0.6, 90), (0.55, 50), (0.1, 1)], [True, False, True, True, False]),
        # The same memory for all: a third goes on, not the best alone.
        ("pareto", [(0.5, 50), (0.6, 50), (0.7, 50), (0.65, 50)], [True, True, True, True]),
        ("pareto", [(0.5, 50), (0.6, 50), (0.4, 50)], [True, True, False]),
    ],
)
def test_who_goes_on(rule, reached, expected):
    assert judged(rule, reached) == expected


def test_rungs_are_apart_and_only_their_epochs_count():
    rungs = Rungs(rule="pareto", epochs=(1, 3), reduction_factor=3)
    assert [epoch in rungs for epoch in (1, 2, 3, 4)] == [True, False, True, False]
    assert rungs.goes_on("a", 1, 0.9, 10)
    assert rungs.goes_on("b", 3, 0.1, 90)


def test_records_of_an_earlier_call_are_judged_against():
    records = [("early", 1, 0.9, 10.0), ("early", 2, 0.95, 10.0), ("other", 3, 0.99, 1.0)]
    assert judged("pareto", [(0.8, 20)], records) == [False]
    assert judged("pareto", [(0.8, 5)], records) == [True]


def test_a_trial_that_is_judged_again_does_not_beat_itself():
    rungs = Rungs(rule="pareto", epochs=(1,), reduction_factor=3)
    assert rungs.goes_on("a", 1, 0.5, 10)
    assert rungs.goes_on("a", 1, 0.4, 10)
