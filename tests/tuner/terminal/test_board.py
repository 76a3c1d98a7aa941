import pytest

from tests.support.counted import Counted, comparisons_of
from tuner.terminal.board import StudyBoard


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def board(clock):
    return StudyBoard(requested=6, epochs=4, workers=2, budget_mib=30.0, clock=clock)


def row(epoch, accuracy=0.5, memory=20.0, seconds=10.0):
    return {
        "epoch": epoch,
        "accuracy_top1": accuracy,
        "peak_memory_mib": memory,
        "epoch_time_s": seconds,
        "images_per_s": 30.0,
    }


def train(board, clock, name, epochs, state="complete", **figures):
    """One worker trains a whole trial, 10 s an epoch."""
    board.trial_started(name)
    for epoch in range(1, epochs + 1):
        clock.now += 10
        board.epoch_ended(name, row(epoch, **figures))
    board.trial_ended(name, state)


def test_before_the_first_epoch_no_rate_and_no_time_left_is_named(board, clock):
    board.trial_started("s-000")
    clock.now += 60
    assert board.left_s is None and board.epochs_per_s is None and board.images_per_s is None
    assert list(board.running) == ["s-000"] and board.elapsed_s == 60


def test_trials_are_counted_and_the_front_grows(board, clock):
    train(board, clock, "s-000", 4, accuracy=0.5, memory=20.0)
    train(board, clock, "s-001", 4, accuracy=0.9, memory=40.0)
    train(board, clock, "s-002", 4, accuracy=0.4, memory=25.0)
    train(board, clock, "s-003", 1, "pruned", accuracy=0.99)
    train(board, clock, "s-004", 0, "failed")
    train(board, clock, "s-005", 2, "infeasible", accuracy=0.99)
    assert board.counts == {"complete": 3, "pruned": 1, "failed": 1, "infeasible": 1, "running": 0}
    assert board.ended == 5 and not board.running
    assert [r.name for r in board.front] == ["s-000", "s-001"]
    assert board.best.name == "s-000", "the budget is 30 MiB"


def test_the_front_and_the_best_are_known_without_a_look_at_all_results(board, clock):
    for index in range(300):
        memory = Counted(10 + index % 5)
        train(board, clock, f"s-{index:03d}", 4, accuracy=Counted(index * 7 % 300), memory=memory)
    assert len(board.results) == 300
    assert comparisons_of(lambda: (board.front, board.best)) < 30


def test_what_earlier_calls_found_counts_too(clock, board):
    train(board, clock, "s-000", 4)
    later = StudyBoard(
        requested=6, epochs=4, workers=2, counts={"complete": 1, "running": 1}, results=board.results
    )
    assert later.ended == 1 and later.best.name == "s-000" and later.counts["running"] == 0


def test_the_time_left_is_that_of_the_workers_at_the_pace_that_was_seen(board, clock):
    board.trial_started("s-000")
    board.trial_started("s-001")
    clock.now += 10
    board.epoch_ended("s-000", row(1))
    board.epoch_ended("s-001", row(1))
    # Two run for 30 s more; four to come take 40 s each, two at a time.
    assert board.left_s == 30 + 2 * 40
    assert board.epochs_per_s == pytest.approx(0.2) and board.images_per_s == 60.0
    clock.now += 5
    assert board.left_s == 25 + 2 * 40


def test_trials_that_end_early_make_those_to_come_shorter(board, clock):
    train(board, clock, "s-000", 4)
    assert board.left_s == 3 * 40  # five to come on two workers
    train(board, clock, "s-001", 2, "pruned")
    assert board.left_s == 2 * 30  # four to come


def test_an_epoch_that_is_reported_again_is_no_epoch_of_now(board, clock):
    board.trial_started("s-000")
    clock.now += 1
    board.epoch_ended("s-000", row(3))
    assert board.running["s-000"].epoch == 3 and board.epochs_per_s is None and board.left_s is None
    clock.now += 10
    board.epoch_ended("s-000", row(4))
    assert board.running["s-000"].trained == 1
    assert board.running["s-000"].pace_s == 10


def test_what_a_process_takes_to_start_is_not_taken_for_the_pace(board, clock):
    board.trial_started("s-000")
    clock.now += 100
    board.epoch_ended("s-000", row(1))
    assert board.running["s-000"].pace_s == 20
    for epoch in (2, 3):
        clock.now += 11
        board.epoch_ended("s-000", row(epoch))
    assert board.running["s-000"].pace_s == 14 and board.running["s-000"].since_s == 100


def test_nothing_is_left_once_all_have_ended(board, clock):
    for index in range(6):
        train(board, clock, f"s-{index:03d}", 4)
    assert board.left_s is None
