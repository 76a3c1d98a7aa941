"""What ImageNet's reader alone promises; tests/tinytl/data/sets/test_named_set.py has what all sets share."""

import re
from pathlib import Path

import pytest

from tests.support.published_sets import PICTURES, imagenet, write_tar
from tinytl.data.sets.imagenet import DEVKIT, IMAGENET, TRAIN, VAL
from tinytl.errors import ConfigError


def _lines(line: str) -> None:
    """Takes what is reported."""


def test_a_validation_image_is_of_the_class_that_the_devkit_numbers(tmp_path: Path) -> None:
    imagenet(tmp_path, n_classes=3)
    listing = IMAGENET.read(tmp_path, 37, _lines)
    assert listing.classes == ("n01000000", "n01000007", "n01000014")
    assert listing.test is None
    val = listing.val
    assert val is not None
    # The devkit counts backwards: the first image is of the last class.
    found = {val.path(i).name: int(val.labels[i]) for i in range(len(val))}  # type: ignore[union-attr]
    assert found == {f"ILSVRC2012_val_{i + 1:08}.JPEG": 2 - i for i in range(3)}


def _more_images(folder: Path) -> None:
    write_tar(folder / VAL, {f"ILSVRC2012_val_{i:08}.JPEG": PICTURES[0] for i in (1, 4)})


def _an_image_beside(folder: Path) -> None:
    write_tar(folder / TRAIN, {"n01000000_1.JPEG": PICTURES[0]})


def _a_class_of_val_alone(folder: Path) -> None:
    for path in ("train/n1/a.JPEG", "val/n1/a.JPEG", "val/n2/a.JPEG"):
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_bytes(PICTURES[0])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_more_images, f"/{VAL}: ILSVRC2012_val_00000004.JPEG has no line in "),
        (_an_image_beside, "n01000000_1.JPEG is no class's archive"),
        (_a_class_of_val_alone, ": class n2 is in one of train and val alone: give both as published"),
    ],
)
def test_archives_of_other_years_or_subsets_are_named_in_one_line(
    tmp_path: Path, damage, message: str
) -> None:
    imagenet(tmp_path, n_classes=3)
    damage(tmp_path)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        IMAGENET.read(tmp_path, 37, _lines)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*partial*"))


def test_folders_need_no_archive(tmp_path: Path) -> None:
    imagenet(tmp_path, n_classes=3)
    IMAGENET.read(tmp_path, 37, _lines)
    for archive in (TRAIN, VAL, DEVKIT):
        (tmp_path / archive).unlink()
    assert len(IMAGENET.read(tmp_path, 37, pytest.fail).train) == 3
