import pytest

from tuner.finish.lengths import MOST_DOUBLINGS, best_length, try_lengths


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


def test_without_a_run_that_ended_there_is_no_best():
    assert best_length({3: None}) is None
