import math

import numpy as np
import pytest

from tuner.findings.difference import Difference, Runs, difference, seed_variance


def runs(right: np.ndarray, *more_scores: float) -> Runs:
    """The runs of a configuration; `right`: which images the first got right."""
    accuracy = float(np.mean(right))
    error = math.sqrt(accuracy * (1 - accuracy) / len(right))
    return Runs([accuracy, *more_scores], (right - accuracy) / len(right), error)


def test_the_error_of_a_difference_is_that_of_images_that_both_judge() -> None:
    rng = np.random.default_rng(0)
    first = rng.random(400) < 0.8
    second = np.where(rng.random(400) < 0.9, first, ~first)  # they differ on a tenth of the images
    found = difference(runs(first), runs(second))
    drawn = []
    for _ in range(2000):
        turn = rng.integers(0, 400, 400)
        drawn.append(first[turn].mean() - second[turn].mean())
    assert found.mean == pytest.approx(first.mean() - second.mean())
    assert found.standard_error == pytest.approx(np.std(drawn), rel=0.06)
    apart = math.hypot(runs(first).standard_error, runs(second).standard_error)
    assert found.standard_error < 0.75 * apart, "image by image it is surer than two errors apart"


def test_without_influences_or_of_other_images_the_errors_add_up() -> None:
    first, second = Runs([0.8], None, 0.03), Runs([0.7], np.zeros(5), 0.04)
    assert difference(first, second).standard_error == pytest.approx(0.05)
    assert difference(second, Runs([0.8], np.zeros(6), 0.03)).standard_error == pytest.approx(0.05)
    assert math.isnan(difference(first, Runs([0.7], None, math.nan)).standard_error)


def test_seeds_add_their_part_and_more_of_them_less() -> None:
    same = np.ones(10, bool)
    assert difference(runs(same), runs(same), 0.0004).standard_error == pytest.approx(math.sqrt(0.0008))
    several = difference(runs(same, 1.0, 1.0, 1.0), runs(same, 1.0, 1.0, 1.0), 0.0004)
    assert several.standard_error == pytest.approx(math.sqrt(0.0002))


def test_the_variance_over_seeds_is_pooled() -> None:
    first, second = Runs([0.7, 0.72], None, 0.01), Runs([0.8, 0.8, 0.86], None, 0.01)
    expected = (np.var([0.7, 0.72]) * 2 + np.var([0.8, 0.8, 0.86]) * 3) / 3
    assert seed_variance([first, second]) == pytest.approx(expected)
    assert seed_variance([Runs([0.7], None, 0.01)]) is None
    assert seed_variance([]) is None


def test_what_is_sure_and_how_it_is_written() -> None:
    assert Difference(0.06, 0.026).is_sure and Difference(0.06, 0.026).points == "6.0 ± 2.6 points"
    assert not Difference(0.05, 0.026).is_sure
    assert not Difference(0.06, math.nan).is_sure and Difference(0.06, math.nan).points == "6.0 points"
