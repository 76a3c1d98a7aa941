import json
from pathlib import Path

import pytest

from tests.tinytl.conftest import write_imagefolder
from tinytl.__main__ import main

PICTURES = {"train/red": 8, "train/blue": 8, "val/red": 2, "val/blue": 2}
FLAGS = (
    "train --dataset imagefolder --backbone efficientnet_lite0 --resolution 32 --device cpu "
    "--method TinyTL-B --batch-size 4 --base-lr 1e-2 --epochs 4 --input-mean 0.4 "
    "--micro-batch-size 4 --checkpoint none --stock-below-kib 0"
).split()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_imagefolder(tmp_path_factory.mktemp("predicted") / "pictures", PICTURES)


@pytest.fixture(scope="module")
def run(pictures: Path) -> Path:
    out = pictures.parent / "run"
    assert main([*FLAGS, "--data-dir", str(pictures), "--out", str(out)]) == 0
    return out


def test_labels(run: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(pictures / "val" / name) for name in ("red/00.png", "blue/00.png")]
    assert main(["predict", str(run), *files, "--epoch", "last", "--json", "--top", "5"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["file"] for row in rows] == files
    assert [row["label"] for row in rows] == ["red", "blue"]  # it has learned: they are one colour each
    for row in rows:
        assert set(row["probabilities"]) == {"red", "blue"}
        assert sum(row["probabilities"].values()) == pytest.approx(1)
        assert row["label"] == max(row["probabilities"], key=row["probabilities"].get)

    assert main(["predict", str(run), files[0], str(pictures / "val" / "blue"), "--epoch", "last"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        [files[0], "red"],
        [files[1], "blue"],
        [str(pictures / "val" / "blue" / "01.png"), "blue"],
    ]


def test_it_judges_as_evaluate_does(run: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--split", "train", "--json"]) == 0
    accuracy = json.loads(capsys.readouterr().out)["accuracy_top1"]
    assert main(["predict", str(run), str(pictures / "train"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 16
    assert sum(Path(row["file"]).parent.name == row["label"] for row in rows) / 16 == accuracy


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["/nowhere.png"], "/nowhere.png: no such picture or folder"),
        (["EMPTY"], "EMPTY holds no pictures"),
        (["EMPTY/broken.jpg", "--top", "0"], "--top 0: must be at least 1"),
    ],
)
def test_mistakes(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], files: list[str], message: str
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    arguments = [file.replace("EMPTY", str(empty)) for file in files]
    if files[0] != "EMPTY":
        (empty / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    assert main(["predict", str(run), *arguments]) == 2
    shown = capsys.readouterr()
    assert message.replace("EMPTY", str(empty)) in shown.err and shown.err.count("\n") == 1
    assert shown.out == ""


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_bad_picture_costs_itself_alone(
    run: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: list[str]
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff")
    good = [str(pictures / "val" / name / "00.png") for name in ("red", "blue")]
    assert main(["predict", str(run), good[0], str(broken), good[1], *form]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith(f"tinytl predict: {broken} does not decode") and shown.err.count("\n") == 1
    if form:
        assert [row["file"] for row in json.loads(shown.out)] == good
    else:
        assert [line.split()[0] for line in shown.out.splitlines()] == good
    assert main(["predict", str(run), str(broken), *form]) == 1
    assert capsys.readouterr().out.split() == (["[", "]"] if form else [])
