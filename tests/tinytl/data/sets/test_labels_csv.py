from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.support.cases import small
from tinytl.data.load import DataSplits, check_data_dir, load_dataset
from tinytl.errors import ConfigError

COLORS = {"red": (220, 30, 30), "blue": (30, 40, 220)}


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Writes red0.png, blue0.png, ... into a folder, and a table."""

    def write(table: str, count: int = 3, inside: str = "") -> Path:
        folder = tmp_path / "pictures"
        (folder / inside).mkdir(parents=True)
        for name, color in COLORS.items():
            for i in range(count):
                Image.new("RGB", (12, 12), color).save(folder / inside / f"{name}{i}.png")
        (folder / "labels.csv").write_text(table)
        return folder

    return write


def load(folder: Path) -> DataSplits:
    config = small(dataset="imagefolder", data_dir=str(folder), num_classes=None)
    check_data_dir(config)
    return load_dataset(config)


ROWS = [f"{name}{i}.png,{name}" for name in COLORS for i in range(3)]


@pytest.mark.parametrize("inside", ["", "images"])
@pytest.mark.parametrize("header", ["file,label", "Filename,Class", "\ufeffimage,category"])
def test_labels_beside_images(make: Callable[..., Path], header: str, inside: str) -> None:
    data = load(make("\n".join([header, *ROWS]), inside=inside))
    assert data.classes == ("blue", "red")
    assert (len(data.train), len(data.val), len(data.test or ())) == (2, 2, 2)
    assert data.train.images[:, 0, 0].tolist() == [list(COLORS["blue"]), list(COLORS["red"])]
    assert data.account == (
        "pictures: 6 images of 2 classes (blue, red): 2 to train, 2 to validate, 2 to test"
        "; left out: 1 of ending .csv"
    )


def test_splits_may_be_named_and_what_no_line_names_is_left_out(make: Callable[..., Path]) -> None:
    rows = ["file,label,split", "red0.png,red,train", "blue0.png,blue,Training", "red1.png,red,valid"]
    data = load(make("\n".join(rows)))
    assert (len(data.train), len(data.val), data.test) == (2, 1, None)
    assert "left out: 3 that labels.csv does not name, 1 of ending .csv" in str(data.account)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["name,kind", *ROWS], "file and label are needed, it has name, kind"),
        ([], "file and label are needed, it has nothing"),
        (["file,label", "red0.png"], "line 2: a file and a label are needed"),
        (["file,label", *ROWS, "a.png,red", "b.png,red"], ": 2 files in it cannot be found: a.png, b.png"),
        (["file,label", *ROWS, "red0.png,blue"], "line 8: red0.png is 'blue', before it was 'red'"),
        (["file,label,split", "red0.png,red,fold1"], "line 2: split 'fold1' is none of train, val and test"),
        (["file,label,split", "red0.png,red,test"], "names no image to train on"),
    ],
)
def test_a_table_that_cannot_be_right(make: Callable[..., Path], rows: list[str], message: str) -> None:
    folder = make("\n".join(rows))
    with pytest.raises(ConfigError) as caught:
        load(folder)
    assert message in str(caught.value) and str(caught.value).startswith(f"{folder / 'labels.csv'}")
    assert "\n" not in str(caught.value)


def test_a_table_that_is_no_text_is_named(make: Callable[..., Path]) -> None:
    folder = make("")
    (folder / "labels.csv").write_bytes(b"file,label\n\xff\xfe,red\n")
    with pytest.raises(ConfigError, match=r"labels\.csv does not read as a table"):
        load(folder)
