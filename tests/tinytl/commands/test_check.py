import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checked_pictures import patterned, several, write_pictures
from tinytl.__main__ import main

COUNTS = {"train/a": 8, "train/b": 8, "val/a": 4, "val/b": 4}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Val's first picture is among the training images of the other class, too, and there is a black one."""
    copy, black = patterned(1000 + 16), patterned(5).point(lambda value: value // 6)
    more = {"train/b/copy.png": copy, "train/a/black.png": black}
    return write_pictures(tmp_path / "set", several(COUNTS) | more)


def _check(pictures: Path, *flags: str) -> int:
    return main(["check", "--dataset", "imagefolder", "--data-dir", str(pictures), *flags])


def test_from_a_check_to_training_without_what_it_found(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, page = tmp_path / "found.csv", tmp_path / "found.html"
    assert _check(pictures, "--csv", str(table), "--html", str(page), "--enough-per-class", "9") == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("set: 26 images of 2 classes (a, b): 18 to train, 8 to validate")
    assert shown[2] == "The same picture in two splits: 1"
    assert shown[3] == (
        "  train/b/copy.png  the same picture as val/a/0.png, which is in val, not train and is labelled a, "
        "not b"
    )
    assert "Dark pictures: 1" in shown and not any("few" in line for line in shown)
    assert page.read_text().count("<figure>") == 3
    with table.open(newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == ["train/b/copy.png", "train/a/black.png"]
    flags = ("--exclude", str(table))
    assert _check(pictures, *flags, "--json", "--enough-per-class", "9") == 0
    captured = capsys.readouterr()
    left = json.loads(captured.out)
    assert left["images"] == 24 and left["counts"] == {"few_pictures": 2}
    assert captured.err == left["data"] + "\n" and "; excluded: 2 by found.csv; this leaves " in left["data"]
    run = [
        "train",
        "--weights",
        "none",
        "--backbone",
        "mobilenet_v2",
        "--resolution",
        "32",
        "--device",
        "cpu",
    ]
    run += ["--method", "FT-Last", "--norm", "group_norm", "--epochs", "1", "--out", str(tmp_path / "run")]
    assert main([*run, "--dataset", "imagefolder", "--data-dir", str(pictures), *flags]) == 0
    left = "; excluded: 2 by found.csv; this leaves 2 classes, 16 to train, 8 to validate\n"
    assert left in capsys.readouterr().out
    assert f"exclude: {table}" in (tmp_path / "run" / "config.yaml").read_text()


def test_wrong_labels_are_looked_for_if_asked(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _check(pictures, "--labels", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counts"].keys() - {"label"} == {"leak", "dark", "few_pictures"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data-dir", "/nowhere"], "--data-dir /nowhere: no such folder"),
        (["--enough-per-class", "0"], "--enough-per-class 0: must be at least 1"),
        (["--min-per-class", "-1"], "min_per_class=-1 is below 0"),
        (["--min-per-class", "99"], "--min-per-class 99 leaves no class of set: two are needed at least"),
        (["--csv", "/nowhere/f.csv"], "--csv /nowhere/f.csv: no such folder as /nowhere"),
        (["--html", "/"], "--html / is a folder: name a file"),
        (["--exclude", "/nowhere.txt"], "--exclude /nowhere.txt does not read (No such file or directory)"),
        (["--resolution", "1"], "resolution=1 is below 32"),
        (["--labels", "--weights", "/nowhere.pt"], "/nowhere.pt"),
    ],
)
def test_mistakes_are_one_line(
    pictures: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert _check(pictures, *flags) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and error.startswith("tinytl check: ")


def test_the_list_is_not_overwritten(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = tmp_path / "f.csv"
    listed.write_text("train/a/0.png\n")
    assert _check(pictures, "--exclude", str(listed), "--csv", str(listed)) == 2
    assert "would overwrite the list of --exclude" in capsys.readouterr().err
    assert listed.read_text() == "train/a/0.png\n"


def test_a_class_with_one_picture_is_said_and_no_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _check(write_pictures(tmp_path, several({"a": 9, "b": 9, "c": 1}))) == 0
    assert "c has 1 training picture, fewer than 20" in capsys.readouterr().out


def test_torch_is_not_needed(pictures: Path) -> None:
    code = (
        "import sys; from tinytl.__main__ import main; "
        f"main(['check', '--dataset', 'imagefolder', '--data-dir', {str(pictures)!r}]); "
        "sys.exit('torch' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
    )
