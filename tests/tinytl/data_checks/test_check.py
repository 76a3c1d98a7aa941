import dataclasses
import io
from pathlib import Path

from PIL import Image

from tests.support.cases import small
from tests.support.checked_pictures import blurred, patterned, several, write_pictures
from tinytl.data.load import load_dataset
from tinytl.data_checks.check import Checked, check_dataset
from tinytl.runs.progress import PlainProgress

COUNTS = {"train/a": 10, "train/b": 10, "val/a": 5, "val/b": 5}


def _checked(root: Path, lines: list[str] | None = None, **fields: object) -> Checked:
    config = small(dataset="imagefolder", data_dir=str(root), num_classes=None, resolution=64, **fields)
    report = (lambda line: None) if lines is None else lines.append
    return check_dataset(config, PlainProgress(report), enough=5, labels=False)


def test_a_set_without_faults_has_no_finding(tmp_path: Path) -> None:
    lines: list[str] = []
    checked = _checked(write_pictures(tmp_path, several(COUNTS)), lines)
    assert checked.findings == [] and len(checked.pictures) == 30
    assert lines == [checked.account] and ": 30 images of 2 classes (a, b)" in lines[0]


def test_all_kinds_are_in_one_list_and_each_named_picture_has_a_thumbnail(tmp_path: Path) -> None:
    pictures = several(COUNTS) | {
        "train/a/copy.png": patterned(1000 + 21),  # val/a/1.png
        "train/b/blurred.png": blurred(patterned(1)),
        "train/c/0.png": patterned(2),
    }
    root = write_pictures(tmp_path, pictures)
    (root / "val/b/broken.png").write_bytes(b"no picture")
    checked = _checked(root)
    assert {(f.kind, f.file or f.label) for f in checked.findings} == {
        ("leak", "train/a/copy.png"),
        ("blurred", "train/b/blurred.png"),
        ("broken", "val/b/broken.png"),
        ("missing_class", "c"),
        ("few_pictures", "c"),
        ("imbalance", "a"),
    }
    assert set(checked.rows) == {
        "train/a/copy.png",
        "val/a/1.png",
        "train/b/blurred.png",
        "val/b/broken.png",
    }
    content = checked.thumbnail("val/a/1.png")
    assert content is not None
    with Image.open(io.BytesIO(content)) as opened:
        assert opened.size == (64, 64)
    assert checked.thumbnail("val/b/broken.png") is None


def test_what_is_excluded_is_not_checked(tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "set", several(COUNTS) | {"train/a/copy.png": patterned(1000 + 21)})
    (tmp_path / "drop.txt").write_text("train/a/copy.png\n")
    checked = _checked(root, exclude=str(tmp_path / "drop.txt"))
    assert checked.findings == [] and "; excluded: 1 by drop.txt; this leaves " in checked.account


def test_its_digest_is_that_of_a_run_on_the_pictures_that_decode(tmp_path: Path) -> None:
    config = small(dataset="imagefolder", data_dir=str(tmp_path), num_classes=None)
    write_pictures(tmp_path, several(COUNTS))
    assert _checked(tmp_path).digest == load_dataset(config).digest
    (tmp_path / "val/b/0.png").write_bytes(b"no picture")
    skipping = dataclasses.replace(config, skip_broken=True)
    assert _checked(tmp_path).digest == load_dataset(skipping).digest


def test_the_bundled_digits_are_checked() -> None:
    checked = check_dataset(
        small(num_classes=None), PlainProgress(lambda line: None), enough=20, labels=False
    )
    assert checked.account == "digits: 1,797 images of 10 classes" and checked.findings == []
