import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tinytl.__main__ import main

MakeRun = Callable[..., Path]
SMALL = "--backbone mobilenet_v2 --resolution 32".split()


def test_one_run_is_drawn_beside_its_metrics(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run("a")
    assert main(["plot", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(folder / "curves.png"), str(folder / "curves.svg")]
    assert sorted(path.name for path in folder.iterdir()) == [
        "curves.png",
        "curves.svg",
        "metrics.jsonl",
        "result.json",
    ]


def test_several_runs_go_to_plots(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = make_run("a"), make_run("b", method="TinyTL-B")
    monkeypatch.chdir(tmp_path)
    assert main(["plot", str(a), str(b), str(a), "--format", "svg"]) == 0
    assert capsys.readouterr() == ("plots/curves.svg\nplots/accuracy_memory.svg\n", "")
    assert "4 runs" not in (tmp_path / "plots/curves.svg").read_text()
    assert "2 runs" in (tmp_path / "plots/curves.svg").read_text()


def test_what_has_not_finished_is_in_the_curves_only(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [make_run("a"), make_run("b", finished=False)]
    with (folders[1] / "metrics.jsonl").open("a") as lines:
        lines.write('{"epoch": 5, "lo')
    words = ["plot", *map(str, folders), "--out", str(tmp_path / "new"), "--format", "PNG"]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{tmp_path / 'new' / 'curves.png'}\n"
    assert shown.err.splitlines() == [
        f"note: {folders[1] / 'metrics.jsonl'}: the last line is cut off and left out",
        "note: 1 of 2 runs have not finished: they are in the curves only",
    ]


def test_diagrams_of_flags_and_of_a_run(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "d"), "--format", "svg"]
    assert main(["plot", "--diagram", "backbone", *SMALL, *out]) == 0
    assert main(["plot", "--diagram", "block", "--method", "TinyTL-L", *SMALL, *out]) == 0
    folder = make_run("a", method="FT-Full", backbone="mobilenet_v2", resolution=64)
    assert main(["plot", str(folder), "--diagram", "block", "--norm", "group_norm", "--format", "svg"]) == 0
    assert capsys.readouterr().out.split() == [
        str(tmp_path / "d" / "backbone_mobilenet_v2.svg"),
        str(tmp_path / "d" / "lite_residual_block.svg"),
        str(folder / "block.svg"),
    ]
    assert "FT-Full on mobilenet_v2, group_norm, 64 px" in (folder / "block.svg").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "",
            "nothing to draw: name folders that `tinytl train --out` wrote, or give --diagram "
            "block|backbone|scheme",
        ),
        ("nowhere", "nowhere: no such folder"),
        ("a nowhere", "nowhere: no such folder"),
        ("empty", "empty holds no metrics.jsonl: name a folder that `tinytl train --out` wrote"),
        ("a --format pdf", "unknown format 'pdf': known: png, svg, both"),
        ("a --method FT-Last", "method changes a diagram only: add --diagram, or leave it out"),
        ("a --out a/result.json", "--out a/result.json is a file: choose a folder"),
        ("--diagram blok", "unknown diagram 'blok': did you mean 'block'? known: block, backbone"),
        ("--diagram backbone --block features.3", "--block names the block of --diagram block: give both"),
        ("a b --diagram block", "--diagram draws one network: name one run, not 2"),
        ("b --diagram block", "b does not hold its configuration yet: give the fields as flags"),
        ("--diagram block --n-groups 5", "n_groups=5 does not divide the 16 input channels of features.2"),
        ("--diagram block --method FT-Ful", "unknown method 'FT-Ful': did you mean 'FT-Full'?"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    make_run: MakeRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    message: str,
) -> None:
    make_run("a")
    make_run("b", finished=False)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["plot", *words.split()]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"tinytl plot: {message}")
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert sorted(tmp_path.rglob("*")) == before


def test_runs_are_drawn_without_torch(make_run: MakeRun, tmp_path: Path) -> None:
    words = ["plot", str(make_run("a")), str(make_run("b", seed=1)), "--out", str(tmp_path / "out")]
    program = (
        f"import sys\nfrom tinytl.__main__ import main\ncode = main({words!r})\n"
        "print(code, sorted({'torch', 'ray', 'optuna', 'mlflow'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 []"
    assert done.stderr == ""
