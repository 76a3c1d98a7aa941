import numpy as np
import pytest

from tests.tinytl.training.test_judgements import judgements
from tinytl.runs.judged import MOST_CLASSES, flat, lines

NAMES = ("cat", "dog", "a newt")


def test_all_figures_as_plain_values() -> None:
    found = flat(judgements([0, 0, 1, 1], [0, 1, 1, 1], 0.75), NAMES)
    assert found["accuracy_top1"] == 0.75 and found["expected_calibration_error"] == 0.0
    assert found["accuracy_top1_standard_error"] == pytest.approx((0.75 * 0.25 / 4) ** 0.5)
    assert found["confusion"] == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert [row["name"] for row in found["per_class"]] == list(NAMES)
    assert found["per_class"][2]["f1"] is None
    assert found["reliability"] == [{"n_images": 4, "confidence": 0.75, "accuracy": 0.75}]


def test_text_has_the_worst_class_first_and_names_what_is_confused() -> None:
    text = "\n".join(lines(judgements([0, 0, 0, 1], [1, 1, 0, 1], 0.75), NAMES))
    rows = [line.split() for line in text.splitlines()[5:8]]
    assert rows == [
        ["cat", "3", "1.000", "0.333", "0.500"],
        ["dog", "1", "0.333", "1.000", "0.500"],
        ["a", "newt", "0", "-", "-", "-"],
    ]
    assert text.endswith("most often wrong:\n  cat taken for dog: 2 of 3")


def test_of_many_classes_those_with_the_lowest_f1_are_shown() -> None:
    labels = np.arange(30)
    predicted = np.where(labels == 17, 0, labels)
    text = list(lines(judgements(labels, predicted), tuple(f"c{label}" for label in labels)))
    assert text[4] == f"the {MOST_CLASSES} of 30 classes with the lowest F1:"
    assert text[6].split()[0] == "c17" and len(text) == 6 + MOST_CLASSES + 3


def test_nothing_is_confused_if_all_is_right() -> None:
    assert not any("wrong" in line for line in lines(judgements([0, 1], [0, 1]), NAMES))
