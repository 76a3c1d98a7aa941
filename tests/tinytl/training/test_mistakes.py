import numpy as np
import pytest

from tests.tinytl.training.test_judgements import judgements
from tinytl.training.mistakes import (
    confused_pairs,
    judged_picture,
    least_certain,
    matrix_classes,
    worst_mistakes,
)

FOUND = judgements([0, 1, 2, 0, 1], [1, 1, 0, 2, 0], [0.9, 0.3, 0.95, 0.5, 0.9], [2.0, 1.2, 3.0, 1.0, 2.5])


def test_the_surest_mistakes_come_first() -> None:
    assert worst_mistakes(FOUND).tolist() == [2, 0, 4, 3]
    assert worst_mistakes(FOUND, 2).tolist() == [2, 0]
    assert worst_mistakes(judgements([0, 1], [0, 1])).tolist() == []


def test_the_least_certain_may_be_right() -> None:
    assert least_certain(FOUND, 3).tolist() == [1, 3, 0]


def test_what_was_said_of_a_picture() -> None:
    one = judged_picture(FOUND, 2, "val/2.png", ("a", "b", "c"))
    assert one[:4] == (2, "val/2.png", "c", "a")
    assert one[4:] == (pytest.approx(0.95), pytest.approx(np.exp(-3.0)))


def test_the_most_confused_pairs_come_first() -> None:
    counts = np.array([[5, 1, 0], [3, 2, 0], [0, 1, 9]])
    pairs = [tuple(pair) for pair in confused_pairs(counts)]
    assert pairs == [(3, 1, 0, 5), (1, 0, 1, 6), (1, 2, 1, 10)]
    assert confused_pairs(np.diag([3, 4])) == []


def test_a_matrix_has_all_classes_or_those_that_are_confused_most() -> None:
    counts = np.diag(np.full(6, 10))
    assert matrix_classes(counts, 6) == [0, 1, 2, 3, 4, 5]
    assert matrix_classes(counts, 4) == [0, 1, 2, 3]
    counts[5, 1], counts[2, 4], counts[4, 5] = 7, 3, 2
    assert matrix_classes(counts, 4) == [1, 2, 4, 5]
    assert matrix_classes(counts, 3) == [1, 5]  # the next pair would make it four
