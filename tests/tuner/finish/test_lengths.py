import pytest

from tuner.finish.lengths import MOST_DOUBLINGS, best_length, lengths, try_lengths


@pytest.mark.parametrize(
    ("scores", "tried", "kept"),
    [
        ([0.5, 0.6, 0.7, 0.65], [3, 6, 12, 24], 12),
        ([0.5, 0.5], [3, 6], 3),
        ([0.5, 0.4], [3, 6], 3),
        ([0.5, None], [3, 6], 3),
        ([0.1, 0.2, 0.3, 0.4, 0.5], [3, 6, 12, 24, 48], 48),
    ],
)
def test_lengths_double_until_a_run_is_not_better_and_the_best_is_kept(scores, tried, kept):
    waiting = iter(scores)
    found = try_lengths(3, lambda epochs: next(waiting))
    assert list(found) == tried and list(found.values()) == scores
    assert best_length(found) == kept
    assert sum(tried) < 2 * tried[-1] and (len(tried) > MOST_DOUBLINGS or tried[-1] == 2 * kept)


def test_no_length_begins_that_would_not_end_in_time_but_the_first_does():
    asked = []
    found = try_lengths(3, lambda epochs: epochs / 100, lambda epochs: asked.append(epochs) or epochs < 24)
    assert found == {3: 0.03, 6: 0.06, 12: 0.12} and asked == [6, 12, 24]


def test_all_lengths_that_may_be_tried():
    assert lengths(3) == [3, 6, 12, 24, 48]


def test_without_a_run_that_ended_there_is_no_best():
    assert best_length({3: None}) is None
