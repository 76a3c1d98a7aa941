import dataclasses

import numpy as np
import pytest

from tests.support.cases import small, tinted_images
from tinytl.config.names import METRICS
from tinytl.data.load import DataSplits
from tinytl.data.splits import ImageSet
from tinytl.errors import ConfigError
from tinytl.runs.class_skew import check_metric, skew_line, unjudged_line


def data(*n_images: int) -> DataSplits:
    """Training images of classes a, b, c, so many of each."""
    images = tinted_images(sum(n_images), 0).images
    train = ImageSet(images, np.repeat(np.arange(3), n_images))
    other = tinted_images(3, 1)
    return DataSplits("tinted", ("a", "b", "c"), train, other, None, crop_scale_min=0.7, flip=False)


def test_a_skewed_set_is_told_with_what_may_help() -> None:
    assert skew_line(data(12, 4, 4), small()) == (
        "skewed: a has 12 of 20 training images (60%), b has 4: metric=macro_f1 counts them alike; "
        "class_weighting=effective or sampling=balanced may help the rare ones"
    )


def test_a_class_without_images_is_the_smallest() -> None:
    line = skew_line(data(5, 5, 0), small())
    assert line is not None and "c has 0" in line


@pytest.mark.parametrize("changes", [{"class_weighting": "effective"}, {"sampling": "balanced"}])
def test_nothing_is_said_of_what_is_done_already(changes: dict[str, str]) -> None:
    assert skew_line(data(12, 4, 4), small(**changes)) is None


@pytest.mark.parametrize(
    ("metric", "means"),
    [
        ("accuracy_top1", "nothing says how well they are told apart"),
        ("macro_f1", "metric=macro_f1 is the mean over the other 1 class"),
    ],
)
def test_classes_without_validation_images_are_named_with_what_that_means(metric: str, means: str) -> None:
    whole = data(5, 4, 3)
    assert unjudged_line(whole, metric) is None
    lacking = dataclasses.replace(whole, val=whole.val.take(np.array([0])))
    assert unjudged_line(lacking, metric) == (
        f"no validation image of 2 classes (with training images): b (4), c (3): {means}; --min-per-class N "
        "leaves out classes with fewer than N pictures"
    )


def test_nothing_is_said_of_an_even_set() -> None:
    assert skew_line(data(11, 4, 4), small()) is None


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_that_the_validation_images_cannot_have(metric: str) -> None:
    whole = data(4, 4, 4)
    check_metric(whole, metric)
    one = dataclasses.replace(whole, val=ImageSet(whole.val.images, np.full(3, 1)))
    if metric == "accuracy_top1":
        check_metric(one, metric)
        return
    with pytest.raises(
        ConfigError, match=rf"metric={metric}: all 3 validation images are of one class \(b\)"
    ):
        check_metric(one, metric)
