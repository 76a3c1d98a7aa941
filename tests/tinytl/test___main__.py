import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.places import ROOT
from tinytl.__main__ import main


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "tinytl train: --out is missing"),
        (["tran"], "tinytl: unknown command 'tran': did you mean 'train'? known: check, train, evaluate"),
        (["memory", "--weights", "none"], "tinytl memory: unknown flag --weights"),
        (
            ["train", "--out", "x", "--bath-size", "3"],
            "tinytl train: unknown flag --bath-size: did you mean --batch-size?",
        ),
        (
            ["evaluate", "run", "--split", "tset"],
            "tinytl evaluate: unknown --split 'tset': did you mean 'test'?",
        ),
        (["predict", "run", "a.png", "--top", "x"], "tinytl predict: --top x: a whole number is needed"),
        (["train", "--out"], "tinytl train: --out has no value: give DIR"),
    ],
)
def test_unknown_flags_exit_with_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1


def test_as_a_program(tmp_path: Path) -> None:
    words = "train --dataset imagefolder --data-dir /nowhere --out".split()
    command = [sys.executable, "-m", "tinytl", *words, str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "tinytl train: --data-dir /nowhere: no such folder\n"


def test_output_that_nobody_reads_to_its_end_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)  # as `head` does once it has its lines
    command = [sys.executable, "-m", "tinytl", "list"]
    done = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writing)
    assert done.stderr == b""


def test_of_several_processes_one_speaks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ["train", "--batch-size", "3", "--out", str(tmp_path / "out"), "--epochs", "0"]
    for rank, lines in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        assert main(words) == 2
        assert capsys.readouterr().err.count("\n") == lines
