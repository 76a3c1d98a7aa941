"""Images that a head tells apart at once: those of a class are of its colour."""

import numpy as np

from tinytl.data.splits import DataSplits, ImageSet


def classes_of_one_colour(n: int, n_classes: int = 3, side: int = 32) -> ImageSet:
    """Returns noisy images `(n, side, side, 3)`, those of a class of its colour; classes take turns."""
    rng = np.random.default_rng(0)
    labels = np.arange(n, dtype=np.int64) % n_classes
    images = rng.integers(0, 60, (n, side, side, 3), dtype=np.uint8)
    for index, label in enumerate(labels):
        images[index, :, :, label] += 150
    return ImageSet(images, labels)


def colours(n_train: int, n_val: int) -> DataSplits:
    """Returns a data set of them, without test images."""
    train, val = classes_of_one_colour(n_train), classes_of_one_colour(n_val)
    return DataSplits("colours", ("a", "b", "c"), train, val, None, crop_scale_min=1.0, flip=False)
