import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import metrics

from tinytl.training.judgements import CALIBRATION_BINS, Bin, Judgements


def judgements(
    labels: object, predicted: object, confidence: object = 0.5, losses: object = 1.0
) -> Judgements:
    n = len(labels)  # type: ignore[arg-type]
    return Judgements(
        labels=np.asarray(labels, np.int64),
        predicted=np.asarray(predicted, np.int64),
        confidence=np.broadcast_to(np.asarray(confidence, np.float32), n),
        losses=np.broadcast_to(np.asarray(losses, np.float32), n),
    )


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("n_classes", [2, 3, 11])
def test_figures_are_those_of_scikit_learn(n_classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice(n_classes, 60, p=rng.dirichlet(np.full(n_classes, 0.4)))  # some classes have no image
    predicted = np.where(rng.random(60) < 0.6, labels, rng.integers(0, n_classes, 60))
    found, there = judgements(labels, predicted), np.unique(labels)
    assert found.accuracy_top1 == pytest.approx(metrics.accuracy_score(labels, predicted))
    recalls = metrics.recall_score(labels, predicted, labels=there, average="macro", zero_division=0)
    assert found.balanced_accuracy == pytest.approx(recalls)
    f1 = metrics.f1_score(labels, predicted, labels=there, average="macro", zero_division=0)
    assert found.macro_f1 == pytest.approx(f1)
    names = tuple(f"c{turn}" for turn in range(n_classes))
    theirs = metrics.precision_recall_fscore_support(
        labels, predicted, labels=range(n_classes), zero_division=np.nan
    )
    rows = found.by_class(names)
    for column, (precision, recall) in enumerate(zip(*theirs[:2], strict=True)):
        assert_allclose([np.nan if x is None else x for x in rows[column][2:4]], [precision, recall])
    assert [row.f1 for row in rows if row.n_images] == pytest.approx([theirs[2][c] for c in there])
    assert [row.n_images for row in rows] == list(theirs[3])
    confusion = metrics.confusion_matrix(labels, predicted, labels=range(n_classes))
    assert_array_equal(found.confusion(n_classes), confusion)


def test_balanced_accuracy_is_scikit_learns_if_every_class_has_images() -> None:
    labels, predicted = [0] * 8 + [1, 1, 2], [0] * 7 + [1, 1, 0, 2]
    ours = judgements(labels, predicted).balanced_accuracy
    assert ours == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))


def test_what_is_undefined_is_none() -> None:
    never_said, no_image, neither, fine = judgements([0, 0, 3], [1, 3, 3]).by_class(("a", "b", "c", "d"))
    assert never_said[1:] == (2, None, 0.0, 0.0)
    assert no_image[1:] == (0, 0.0, None, None)
    assert neither[1:] == (0, None, None, None)
    assert fine[1:] == (1, 0.5, 1.0, pytest.approx(2 / 3))


def test_a_class_that_takes_all_has_a_high_accuracy_and_low_other_figures() -> None:
    found = judgements([0] * 90 + [1] * 10, [0] * 100)
    assert (found.accuracy_top1, found.balanced_accuracy) == (0.9, 0.5)
    assert found.macro_f1 == pytest.approx(0.5 * 2 * 90 / 190)


def test_loss_is_the_mean() -> None:
    assert judgements([0, 1], [0, 0], losses=[0.5, 2.0]).loss == 1.25


def test_confidence_beside_accuracy_in_bins_that_hold_images() -> None:
    width = 1 / CALIBRATION_BINS
    found = judgements([0, 0, 0, 0], [0, 1, 0, 0], [0.5 * width, 0.7 * width, 0.9 * width, 1.0])
    low, high = found.reliability()
    assert low == Bin(3, pytest.approx(0.7 * width), pytest.approx(2 / 3))
    assert high == Bin(1, 1.0, 1.0)  # a bin has its upper edge
    assert found.calibration_error == pytest.approx(3 / 4 * (2 / 3 - 0.7 * width), rel=1e-6)


def test_a_network_that_is_as_right_as_it_is_sure_is_calibrated() -> None:
    assert judgements([0] * 4, [0, 0, 0, 1], 0.75).calibration_error == pytest.approx(0.0)


METRICS = ("accuracy_top1", "balanced_accuracy", "macro_f1")


def some_judgements(n: int, seed: int) -> Judgements:
    rng = np.random.default_rng(seed)
    labels = rng.choice(5, n, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    return judgements(labels, np.where(rng.random(n) < 0.7, labels, rng.integers(0, 5, n)))


@pytest.mark.parametrize("metric", METRICS)
def test_influences_are_the_gradient_of_a_metric_by_the_weight_of_each_image(metric: str) -> None:
    found = some_judgements(40, 3)
    influence = found.influence(metric)
    assert influence.shape == (40,) and influence.sum() == pytest.approx(0, abs=1e-12)
    copies = 2000  # an image more among so many copies of all: a small step along its weight
    for image in (0, 7, 21):
        turn = np.concatenate([np.tile(np.arange(40), copies), [image]])
        more = judgements(found.labels[turn], found.predicted[turn])
        step = (getattr(more, metric) - getattr(found, metric)) * copies
        assert step == pytest.approx(influence[image], rel=1e-2, abs=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_a_standard_error_is_how_far_images_drawn_again_move_a_metric(metric: str) -> None:
    found, rng = some_judgements(400, 1), np.random.default_rng(2)
    drawn = []
    for _ in range(600):
        turn = rng.integers(0, 400, 400)
        drawn.append(getattr(judgements(found.labels[turn], found.predicted[turn]), metric))
    assert found.standard_error(metric) == pytest.approx(np.std(drawn), rel=0.12)


def test_the_standard_error_of_an_accuracy_is_binomial() -> None:
    assert judgements([0, 0, 1, 1], [0, 1, 1, 1]).standard_error("accuracy_top1") == (0.75 * 0.25 / 4) ** 0.5
    assert judgements([0, 1], [0, 1]).standard_error("macro_f1") == 0.0
