from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.cases import small
from tinytl.config.train_config import TrainConfig
from tinytl.data.excluded import names_of
from tinytl.data.load import check_data_dir, load_dataset, load_whole_folder
from tinytl.data.splits import ImageFiles, parts_of
from tinytl.errors import ConfigError

MakeFolder = Callable[..., Path]


def _config(root: Path, exclude: Path | None, **fields: object) -> TrainConfig:
    fields = {"num_classes": None, "exclude": None if exclude is None else str(exclude)} | fields
    return small(dataset="imagefolder", data_dir=str(root), **fields)


def _files(config: TrainConfig) -> dict[str, list[str]]:
    parts = parts_of(load_dataset(config))
    return {
        name: sorted(n.decode() for n in names_of(name, part, config.data_dir).tolist())
        for name, part in parts.items()
    }


TABLE = "kind,split,class,file,compared_with\nduplicate,train,red,red/01.png,blue/00.png\nfew,train,red,,\n"


@pytest.mark.parametrize(
    "text",
    [
        "red/01.png\n",
        "\nred/01.png\r\n\n",
        "./red/01.png",
        TABLE,
        "\ufeff" + TABLE,
        TABLE.replace(",", ";"),
        "ROOT/red/01.png\nred/01.png",
    ],
    ids=[
        "lines",
        "blank lines",
        "a dot",
        "a table",
        "a table with a mark",
        "semicolons",
        "a whole path, twice",
    ],
)
def test_the_others_stay_in_their_splits(make_imagefolder: MakeFolder, tmp_path: Path, text: str) -> None:
    root = make_imagefolder({"red": 10, "blue": 10})
    listed = tmp_path / "drop.csv"
    listed.write_text(text.replace("ROOT", str(root)))
    before = _files(_config(root, None, loading="stream"))
    after = _files(_config(root, listed, loading="stream"))
    assert after == {name: [n for n in names if n != "red/01.png"] for name, names in before.items()}
    assert after != before


@pytest.mark.parametrize("loading", ["memory", "stream"])
def test_they_are_counted_and_the_data_is_another(
    make_imagefolder: MakeFolder, tmp_path: Path, loading: str
) -> None:
    root = make_imagefolder({"train/red": 4, "train/blue": 4, "val/red": 2, "val/blue": 2, "test/red": 1})
    digests = set()
    for names in ([], ["train/red/01.png"], ["train/red/02.png"], ["val/red/00.png", "test/red/00.png"]):
        listed = tmp_path / "drop.txt"
        listed.write_text("\n".join(names))
        data = load_dataset(_config(root, listed if names else None, loading=loading))
        digests.add(data.digest)
        assert data.account is not None
        assert (f"; excluded: {len(names)} by drop.txt; this leaves 2 classes, " in data.account) == bool(
            names
        )
    assert len(digests) == 4 and data.test is None and len(data.val) == 3


def test_names_of_any_bytes_are_found(make_imagefolder: MakeFolder, tmp_path: Path) -> None:
    root = make_imagefolder({"red": 4, "blue": 4})
    odd = Path(str(root / "red") + "/l\udcfctin, a.png")
    (root / "red" / "01.png").rename(odd)
    listed = tmp_path / "drop.csv"
    listed.write_text('file\n"red/l\udcfctin, a.png"\n', errors="surrogateescape")
    config = _config(root, listed, loading="memory")
    check_data_dir(config)
    assert sum(map(len, parts_of(load_dataset(config)).values())) == 7


def test_pictures_of_arrays_have_numbers(tmp_path: Path) -> None:
    listed = tmp_path / "drop.txt"
    listed.write_text("train/0\ntest/3\n")
    whole = load_dataset(small(num_classes=None))
    left = load_dataset(small(num_classes=None, exclude=str(listed)))
    assert (
        left.account.startswith("digits; excluded: 2 by drop.txt; this leaves 10 classes, ")
        and left.digest != whole.digest
    )
    np.testing.assert_array_equal(left.train.labels, whole.train.labels[1:])
    assert whole.test is not None and left.test is not None
    np.testing.assert_array_equal(left.test.labels, np.delete(whole.test.labels, 3))
    listed.write_text("train/99999\n")
    with pytest.raises(ConfigError, match=r"train/99999 \(line 1\) is no picture of digits"):
        load_dataset(small(num_classes=None, exclude=str(listed)))


def test_a_folder_that_is_judged_whole_is_listed_too(make_imagefolder: MakeFolder, tmp_path: Path) -> None:
    root = make_imagefolder({"red": 4, "blue": 4})
    (tmp_path / "drop.txt").write_text("red/01.png\n")
    files = load_whole_folder(_config(root, tmp_path / "drop.txt"), ["blue", "red"])
    assert isinstance(files, ImageFiles) and len(files) == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not read (No such file or directory): give a file with a path per line"),
        ("", "names no picture: leave the flag out"),
        ("file,kind\n", "names no picture: leave the flag out"),
        (
            "red/01.png\nred/77.png\n",
            "red/77.png (line 2) is no file in ROOT: paths are relative to the data folder; correct or",
        ),
        (
            "".join(f"red/{i}.png\n" for i in range(70, 75)),
            "red/70.png (line 1), red/71.png (line 2), red/72.png (line 3) and 2 more are no file in ROOT",
        ),
        ("notes.txt\n", "notes.txt (line 1) is no picture of pictures: paths are"),
        (
            "".join(f"red/{i:02}.png\n" for i in range(4)),
            "to train class red: take lines out of the list, or leave the class out by --min-per-class",
        ),
    ],
)
def test_mistakes(make_imagefolder: MakeFolder, tmp_path: Path, text: str | None, message: str) -> None:
    root = make_imagefolder({"red": 4, "blue": 4})
    (root / "notes.txt").write_text("no picture")
    listed = tmp_path / "drop.txt"
    if text is not None:
        listed.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config = _config(root, listed)
        check_data_dir(config)
        load_dataset(config)
    assert str(caught.value).startswith(f"--exclude {listed}")
    assert message.replace("ROOT", str(root)) in str(caught.value) and "\n" not in str(caught.value)


def test_what_cannot_be_listed_is_found_before_anything_is_read(
    make_imagefolder: MakeFolder, tmp_path: Path
) -> None:
    root = make_imagefolder({"red": 4, "blue": 4})
    (tmp_path / "drop.txt").write_text("red/99.png\n")
    with pytest.raises(ConfigError, match=r"red/99.png \(line 1\) is no file in"):
        check_data_dir(_config(root, tmp_path / "drop.txt"))
    with pytest.raises(ConfigError, match="exclude=3 is no file's name"):
        small(exclude=3)


def test_a_list_that_is_not_utf_8_is_said_to_be_so(make_imagefolder: MakeFolder, tmp_path: Path) -> None:
    root = make_imagefolder({"red": 10, "blue": 10})
    listed = tmp_path / "drop.csv"
    listed.write_bytes("file\nred/01.png\nred/gr\u00fcn.png\n".encode("cp1252"))
    with pytest.raises(
        ConfigError, match=r"drop\.csv: line 3 is not UTF-8, and no file in .* as it is: save the"
    ):
        load_dataset(_config(root, listed))
