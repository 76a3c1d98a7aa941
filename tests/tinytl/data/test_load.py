from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cases import small
from tinytl.data.load import check_data_dir, load_dataset
from tinytl.errors import ConfigError

MakeFolder = Callable[..., Path]


def test_number_of_classes_must_agree(make_imagefolder: MakeFolder) -> None:
    root = make_imagefolder({"red": 3, "blue": 3})
    assert load_dataset(small(dataset="imagefolder", data_dir=str(root), num_classes=2)).classes
    with pytest.raises(ConfigError, match=r"^num_classes=3, but pictures has 2 classes: leave"):
        load_dataset(small(dataset="imagefolder", data_dir=str(root), num_classes=3))


def test_a_folder_without_imagefolder_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not used by dataset digits: add --dataset imagefolder"):
        check_data_dir(small(data_dir=str(tmp_path)))
    check_data_dir(small())
