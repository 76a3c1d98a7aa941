"""What the command prints; tests/tinytl/export/test_folder.py has its files and its mistakes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cases import small
from tests.support.exports import save_run
from tinytl.__main__ import main

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = small(method="FT-Last", dataset="imagefolder", data_dir="/gone")
    return save_run(tmp_path_factory.mktemp("run"), config)


@pytest.fixture
def export(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command on a run with a `best.pt`; ONNX itself is left out, which takes seconds."""
    monkeypatch.setattr("tinytl.export.folder.onnx_bytes", lambda *arguments: b"x" * 3 * 2**20)
    monkeypatch.setattr("tinytl.export.folder.largest_difference", lambda *arguments: 1e-7)
    return lambda *flags: main(["export", str(run), "--out", str(tmp_path / "out"), *flags])


def test_json_is_the_file_that_was_written(
    export: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export("--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out" / "model.json").read_text())
    assert printed["epoch"] == 1


def test_lines_say_what_was_exported_how_it_was_checked_and_where_it_lies(
    export: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "FT-Last on mobilenet_v2: epoch 1 of 10"
    assert lines[1].endswith(" MiB")
    assert "3.0 MiB" in lines[1]
    assert "differs from PyTorch by 1.0e-07 at most" in lines[2]
    assert lines[3] == f"{tmp_path / 'out'}: model.onnx, weights.pt, config.yaml, model.json"


def test_an_epoch_that_is_none_of_the_two_is_refused(
    export: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        export("--epoch", "3")
    assert "--epoch" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--training", "--int8"], "--training and --int8 exclude each other: leave one of them out"),
        (["--training", "--data-dir", "x"], "--training and --data-dir exclude each other"),
        (["--max-accuracy-drop", "0.1"], "--max-accuracy-drop limits what --int8 costs: add --int8"),
        (["--int8", "--max-accuracy-drop", "1.5"], "--max-accuracy-drop 1.5 is no fraction: from 0 to 1"),
        (["--int8", "--max-accuracy-drop", "nan"], "--max-accuracy-drop nan is no fraction"),
        (["--int8"], "--int8 calibrates on the training images of the run: "),
        (["--data-dir", "/nowhere"], "/nowhere"),
    ],
)
def test_flags_that_exclude_each_other_and_images_that_are_gone(
    flags: list[str],
    message: str,
    export: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert export(*flags) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and printed.out == ""
    assert not (tmp_path / "out").exists()
