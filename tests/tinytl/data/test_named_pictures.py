from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.cases import small
from tinytl.config.train_config import TrainConfig
from tinytl.data.load import load_dataset
from tinytl.data.named_pictures import as_judged, named_parts
from tinytl.errors import ConfigError

MakeFolder = Callable[..., Path]


def _config(root: Path, **fields: object) -> TrainConfig:
    return small(dataset="imagefolder", data_dir=str(root), **{"num_classes": None} | fields)


def test_pictures_are_in_the_order_that_is_judged_and_have_names(make_imagefolder: MakeFolder) -> None:
    config = _config(make_imagefolder({"red": 10, "blue": 5}))
    data, parts = named_parts(config)
    assert data.classes == ("blue", "red") and set(parts) == {"train", "val", "test"}
    val = parts["val"]
    loaded = load_dataset(config).val
    for row in range(len(val)):
        assert val.file(row).startswith(data.classes[val.labels[row]] + "/")
        picture = val.picture(row)
        assert isinstance(picture, Image.Image)
        assert np.array_equal(np.asarray(picture), loaded.images[row])  # type: ignore[union-attr]


@pytest.mark.parametrize("dataset", ["digits", "imagefolder"])
def test_names_do_not_depend_on_what_is_left_out(
    make_imagefolder: MakeFolder, tmp_path: Path, dataset: str
) -> None:
    if dataset == "digits":
        config = small(dataset="digits", num_classes=None)
    else:
        config = _config(make_imagefolder({"train/red": 3, "train/blue": 3, "val/red": 3, "val/blue": 2}))
    before = named_parts(config)[1]["val"]
    listed = tmp_path / "drop.txt"
    listed.write_text(before.file(1) + "\n")
    after = named_parts(small(**vars(config) | {"exclude": str(listed)}))[1]["val"]
    names = [before.file(row) for row in range(len(before))]
    assert [after.file(row) for row in range(len(after))] == names[:1] + names[2:]
    assert np.array_equal(np.asarray(after.picture(1)), np.asarray(before.picture(2)))


def test_pictures_of_arrays_keep_their_numbers_without_small_classes() -> None:
    whole = named_parts(small(num_classes=None))[1]["train"]
    data, parts = named_parts(small(num_classes=None, min_per_class=179))
    left = parts["train"]
    assert len(data.classes) < 10 and 0 < len(left) < len(whole)
    rows = {whole.file(row): row for row in range(len(whole))}
    for row in range(len(left)):
        assert np.array_equal(np.asarray(left.picture(row)), np.asarray(whole.picture(rows[left.file(row)])))


def test_what_was_skipped_as_broken_has_no_row(make_imagefolder: MakeFolder) -> None:
    root = make_imagefolder({"train/red": 3, "train/blue": 3, "val/red": 3, "val/blue": 2})
    (root / "val/blue/00.png").write_bytes(b"no picture")
    config = _config(root, skip_broken=True)
    judged = load_dataset(config).val
    found = as_judged(named_parts(config)[1]["val"], judged.labels, config)
    assert [found.file(row) for row in range(len(found))] == [
        "val/blue/01.png",
        "val/red/00.png",
        "val/red/01.png",
        "val/red/02.png",
    ]


def test_other_pictures_than_those_that_were_judged_have_no_names(make_imagefolder: MakeFolder) -> None:
    root = make_imagefolder({"train/red": 3, "train/blue": 3, "val/red": 3, "val/blue": 2})
    config = _config(root)
    judged = load_dataset(config).val.labels
    (root / "val/red/00.png").rename(root / "val/blue/09.png")
    moved = named_parts(config)[1]["val"]
    with pytest.raises(ConfigError, match="have changed since they were judged"):
        as_judged(moved, judged, config)
    (root / "val/red/01.png").unlink()
    with pytest.raises(ConfigError, match=r"5 then, 4 now"):
        as_judged(named_parts(config)[1]["val"], judged, config)
