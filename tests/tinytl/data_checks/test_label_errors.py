import numpy as np
import pytest

from tinytl.data_checks.label_errors import class_thresholds, confident_joint, label_suspects

# Ten pictures by hand: 0-4 are labelled 0, 5-9 are labelled 1. Picture 3 is of class 1, picture 9 of class 0.
PROBABILITIES = np.array(
    [
        *([0.9, 0.1], [0.8, 0.2], [0.9, 0.1], [0.1, 0.9], [0.8, 0.2]),
        *([0.3, 0.7], [0.4, 0.6], [0.3, 0.7], [0.4, 0.6], [0.9, 0.1]),
    ]
)
LABELS = np.array([0] * 5 + [1] * 5)


def test_thresholds_are_the_mean_of_each_class_for_its_own() -> None:
    np.testing.assert_allclose(class_thresholds(PROBABILITIES, LABELS), [3.5 / 5, 2.7 / 5])


def test_the_joint_counts_who_reaches_a_threshold() -> None:
    # All of label 0 count, one for class 1. Of label 1, four reach 0.54; picture 9 reaches 0.7 for class 0.
    np.testing.assert_allclose(confident_joint(PROBABILITIES, LABELS), [[4, 1], [1, 4]])
    # Picture 8 no longer reaches a threshold: the four others stand for five.
    unsure = PROBABILITIES.copy()
    unsure[8] = [0.5, 0.5]
    np.testing.assert_allclose(confident_joint(unsure, LABELS), [[4, 1], [1.25, 3.75]])


def test_the_wrong_ones_are_named_with_what_they_look_like() -> None:
    suspects = label_suspects(PROBABILITIES, LABELS)
    assert [(s.row, s.given, s.likely) for s in suspects] == [(3, 0, 1), (9, 1, 0)]
    assert suspects[0].ratio == pytest.approx(9) and suspects[1].ratio == pytest.approx(9)


def test_a_model_that_is_surer_of_one_class_does_not_accuse_the_other() -> None:
    """Class 1 gets 0.4 for its own pictures: less than class 0 gets, but as much as class 1 ever gets."""
    probabilities = np.array([[0.95, 0.05]] * 6 + [[0.6, 0.4]] * 6)
    assert label_suspects(probabilities, np.array([0] * 6 + [1] * 6)) == []


def test_the_likeliest_error_is_first_whatever_the_order() -> None:
    probabilities = np.eye(3)[np.repeat(np.arange(3), 20)] * 0.7 + 0.1
    labels = np.repeat(np.arange(3), 20)
    for row, strength in ((7, 0.80), (25, 0.95), (41, 0.85)):
        wrong = (labels[row] + 1) % 3
        probabilities[row] = (1 - strength) / 2
        probabilities[row, wrong] = strength
        probabilities[row, labels[row]] = (1 - strength) / 2
    suspects = label_suspects(probabilities, labels)
    assert [s.row for s in suspects] == [25, 41, 7]
    order = np.random.default_rng(0).permutation(60)
    shuffled = label_suspects(probabilities[order], labels[order])
    assert [order[s.row] for s in shuffled] == [s.row for s in suspects]


def test_zero_probabilities_and_classes_without_pictures_do_no_harm() -> None:
    probabilities = np.array([[1.0, 0.0, 0.0]] * 5 + [[0.0, 1.0, 0.0]] * 5 + [[0.0, 0.0, 1.0]])
    labels = np.array([0] * 5 + [1] * 4 + [0] + [0])
    suspects = label_suspects(probabilities, labels)
    assert [(s.row, s.likely) for s in suspects] == [(9, 1)]  # class 2 has no threshold
    assert all(np.isfinite(s.ratio) for s in suspects)


def test_without_pictures_there_is_nothing_to_find() -> None:
    assert label_suspects(np.empty((0, 3)), np.empty(0, np.int64)) == []


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (np.full((3, 2), 0.5), np.array([0, 1]), "do not fit labels"),
        (np.full(3, 0.5), np.array([0, 1, 0]), "do not fit labels"),
        (np.full((2, 2), 0.5), np.array([0, 2]), "labels from 0 to 2 do not fit 2 classes"),
        (np.full((2, 2), 0.5), np.array([-1, 1]), "labels from -1 to 1 do not fit 2 classes"),
    ],
)
def test_what_does_not_fit_is_refused(probabilities, labels, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        label_suspects(probabilities, labels)


def test_nothing_is_said_of_the_only_picture_of_a_class_or_because_of_it() -> None:
    """A model that judges it never saw its class; all that are unsure would count for that class."""
    rng = np.random.default_rng(0)
    labels = np.array([*np.repeat(np.arange(3), 40), 3])
    probabilities = np.full((121, 4), 0.1)
    probabilities[np.arange(120), labels[:120]] = 0.7
    probabilities[:, 3] = 1e-6  # of which the model never heard
    probabilities[rng.choice(120, 30, replace=False)] = [0.34, 0.33, 0.32, 0.01]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    without = label_suspects(probabilities[:120, :3], labels[:120])
    assert label_suspects(probabilities, labels) == without
