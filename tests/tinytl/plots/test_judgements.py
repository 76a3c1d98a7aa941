from pathlib import Path

import numpy as np
import pytest

from tests.tinytl.training.test_judgements import judgements
from tinytl.plots.judgements import MOST_COUNTED, plot_confusion, plot_reliability, save_judgements
from tinytl.training.mistakes import MOST_IN_MATRIX


@pytest.mark.parametrize("n", [2, MOST_COUNTED, MOST_COUNTED + 1, MOST_IN_MATRIX])
def test_a_confusion_matrix_has_names_and_as_long_as_they_can_be_read_counts(n: int) -> None:
    counts = np.diag(np.arange(n))
    axes = plot_confusion(counts, tuple(f"$c{turn}" for turn in range(n)), "x").axes[0]
    assert len(axes.texts) == (n - 1 if n <= MOST_COUNTED else 0)  # none in cells of 0
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"$c{turn}" for turn in range(n)]


def test_of_many_classes_a_matrix_has_the_most_confused_in_shares_of_all_their_images() -> None:
    counts = np.diag(np.full(200, 4))
    counts[np.arange(0, 80, 2), np.arange(1, 81, 2)] = np.arange(40, 0, -1)
    axes = plot_confusion(counts, tuple(f"c{turn}" for turn in range(200)), "x").axes[0]
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == [f"c{turn}" for turn in range(MOST_IN_MATRIX)]
    assert axes.get_title() == f"x\nthe {MOST_IN_MATRIX} of 200 classes that are confused most"
    assert axes.images[0].get_array()[0, :2].tolist() == [4 / 44, 40 / 44]  # type: ignore[index]


def test_a_row_is_in_shares_of_its_class() -> None:
    axes = plot_confusion(np.array([[3, 1], [0, 0]]), ("a", "b"), "x").axes[0]
    assert axes.images[0].get_array().tolist() == [[0.75, 0.25], [0.0, 0.0]]  # type: ignore[union-attr]


def test_reliability_has_a_point_for_each_bin() -> None:
    above, below = plot_reliability(judgements([0, 0, 0], [0, 1, 0], [0.5, 0.5, 0.9]), "x").axes
    assert above.lines[1].get_xydata().tolist() == [[0.5, 0.5], [pytest.approx(0.9), 1.0]]
    assert [bar.get_height() for bar in below.patches] == [2, 1]  # type: ignore[attr-defined]


def test_both_pictures_are_written(tmp_path: Path) -> None:
    paths = save_judgements(judgements([0, 1], [0, 0]), ("a", "b"), tmp_path / "new", "x")
    assert [path.name for path in paths] == ["confusion.png", "reliability.png"]
    assert all(path.stat().st_size > 5000 for path in paths)
