from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.cases import small
from tinytl.config.train_config import TrainConfig
from tinytl.data.load import load_dataset, load_whole_folder
from tinytl.data.splits import ImageFiles, parts_of
from tinytl.errors import ConfigError

MakeFolder = Callable[..., Path]
COUNTS = {"blue": 10, "few": 3, "one": 1, "red": 10}


def _config(root: Path, least: int, **fields: object) -> TrainConfig:
    given = {"num_classes": None, "min_per_class": least, "dataset": "imagefolder", "data_dir": str(root)}
    return small(**(given | fields))


def _files(config: TrainConfig) -> dict[str, set[tuple[str, str]]]:
    """Returns name and class of each file, by split."""
    data = load_dataset(config)
    found = {}
    for name, part in parts_of(data).items():
        assert isinstance(part, ImageFiles)
        classes = [data.classes[label] for label in part.labels]
        found[name] = set(zip(map(bytes.decode, part.names.tolist()), classes, strict=True))
    return found


def test_small_classes_go_the_others_stay_in_their_splits_and_both_are_said(
    make_imagefolder: MakeFolder,
) -> None:
    root = make_imagefolder(COUNTS)
    before, after = (_files(_config(root, least, loading="stream")) for least in (0, 4))
    assert after == {
        split: {(file, name) for file, name in files if name in ("blue", "red")}
        for split, files in before.items()
    }
    data = load_dataset(_config(root, 4))
    assert data.classes == ("blue", "red") and set(np.unique(data.train.labels)) == {0, 1}
    assert data.account is not None
    few = "; left out: 2 classes with fewer than 4 pictures: few (3), one (1)"
    n_train, n_val = len(data.train), len(data.val)
    assert f"{few}; this leaves 2 classes, {n_train} to train, {n_val} to validate" in data.account


def test_the_digest_knows_of_it(make_imagefolder: MakeFolder) -> None:
    root = make_imagefolder(COUNTS)
    digests = [load_dataset(_config(root, least)).digest for least in (0, 1, 2, 3, 4, 10)]
    assert digests[0] == digests[1] != digests[2] == digests[3] != digests[4] == digests[5] != digests[0]


def test_pictures_of_all_splits_count_once_the_list_has_left_out_its_own(
    make_imagefolder: MakeFolder, tmp_path: Path
) -> None:
    counts = {"train/blue": 4, "train/few": 2, "train/red": 4, "val/blue": 1, "val/few": 2, "val/red": 1}
    root = make_imagefolder(counts)
    assert load_dataset(_config(root, 4)).classes == ("blue", "few", "red")
    listed = tmp_path / "drop.txt"
    listed.write_text("train/few/00.png\n")
    assert load_dataset(_config(root, 4, exclude=str(listed))).classes == ("blue", "red")
    listed.write_text("train/few/00.png\ntrain/few/01.png\n")
    with pytest.raises(ConfigError, match="no picture is left to train class few"):
        load_dataset(_config(root, 2, exclude=str(listed)))
    assert load_dataset(_config(root, 3, exclude=str(listed))).classes == ("blue", "red")


@pytest.mark.parametrize(("least", "left"), [(11, "no class"), (10, None)])
def test_two_classes_are_left_at_least(make_imagefolder: MakeFolder, least: int, left: str | None) -> None:
    root = make_imagefolder(COUNTS)
    if left is None:
        assert len(load_dataset(_config(root, least)).classes) == 2
        return
    with pytest.raises(ConfigError, match=rf"^--min-per-class {least} leaves {left} of .*: two are needed"):
        load_dataset(_config(root, least))


def test_something_is_left_to_validate(make_imagefolder: MakeFolder) -> None:
    root = make_imagefolder({"train/blue": 4, "train/few": 1, "train/red": 4, "val/few": 2})
    with pytest.raises(ConfigError, match=r"^--min-per-class 4: no picture is left to validate: add "):
        load_dataset(_config(root, 4))


def test_arrays_too_and_what_a_network_knows_stays(make_imagefolder: MakeFolder) -> None:
    digits = load_dataset(small(num_classes=None, min_per_class=178))
    assert len(digits.classes) < 10 and digits.train.labels.max() == len(digits.classes) - 1
    root = make_imagefolder(COUNTS)
    assert load_dataset(_config(root, 4), known=("blue", "few")).classes == ("blue", "few", "red")
    whole = load_whole_folder(_config(root, 4), ("blue", "red"))
    assert whole is not None and np.bincount(whole.labels).tolist() == [10, 10]
    with pytest.raises(ConfigError, match="class few is none of the network's"):
        load_whole_folder(_config(root, 2), ("blue", "red"))
