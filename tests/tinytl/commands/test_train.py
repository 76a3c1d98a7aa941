import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tinytl.__main__ import main

ROOT = Path(__file__).parents[3]
PICTURES = {"train/red": 5, "train/blue": 4, "val/red": 1, "val/blue": 1, "test/red": 1, "test/blue": 1}
FLAGS = (
    "train --dataset imagefolder --weights none --backbone mobilenet_v2 --resolution 32 --device cpu "
    "--method TinyTL-L+B --norm group_norm --batch-size 2 --base-lr 1e-3"
).split()
WALL_CLOCK = ("epoch_time_s", "images_per_s")


def _rows(folder: Path) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in WALL_CLOCK} for row in rows]


def _weights(folder: Path) -> bytes:
    import torch

    state = torch.load(folder / "last.pt", weights_only=True)["net"]
    return b"".join(tensor.numpy().tobytes() for tensor in state.values())


def _start(arguments: list[str]) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "tinytl", *arguments], cwd=ROOT, env=environment)


def _wait_for_lines(path: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        if path.exists() and len(path.read_text().splitlines()) >= count:
            return
        assert process.poll() is None, "ended before it could be cut off"
        time.sleep(0.05)
    raise AssertionError(f"{path} has no {count} lines")


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_a_run_that_was_cut_off_ends_as_one_that_was_not(
    make_imagefolder: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: signal.Signals,
) -> None:
    data = ["--data-dir", str(make_imagefolder(PICTURES)), "--epochs", "12"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([*FLAGS, *data, "--out", str(whole)]) == 0
    process = _start([*FLAGS, *data, "--out", str(cut)])
    try:
        _wait_for_lines(cut / "metrics.jsonl", 2, process)
        process.send_signal(kind)
        code = process.wait(60)
    finally:
        process.kill()
    assert code == (130 if kind == signal.SIGINT else -signal.SIGKILL)
    assert not (cut / "result.json").exists()
    capsys.readouterr()
    assert main(["train", "--out", str(cut), "--resume"]) == 0
    assert "going on after epoch" in capsys.readouterr().out
    assert _rows(cut) == _rows(whole)
    assert _weights(cut) == _weights(whole)
    assert json.loads((cut / "result.json").read_text()) == json.loads((whole / "result.json").read_text())


def test_resume_before_the_first_epoch_s_end_and_after_the_last(
    make_imagefolder: Callable[..., Path], tmp_path: Path
) -> None:
    data = ["--data-dir", str(make_imagefolder(PICTURES)), "--epochs", "1", "--method", "FT-Last"]
    out = tmp_path / "out"
    assert main([*FLAGS, *data, "--out", str(out)]) == 0
    result = (out / "result.json").read_text()
    (out / "result.json").unlink()  # killed while the test images were judged
    assert main(["train", "--out", str(out), "--resume"]) == 0
    assert (out / "result.json").read_text() == result
    for name in ("result.json", "last.pt", "best.pt"):  # killed in its first epoch
        (out / name).unlink()
    assert main(["train", "--out", str(out), "--resume"]) == 0
    assert (out / "result.json").read_text() == result
    assert len(_rows(out)) == 1


def test_a_run_is_repeated_from_its_configuration(
    make_imagefolder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, one, two = make_imagefolder(PICTURES), tmp_path / "one", tmp_path / "two"
    monkeypatch.chdir(root.parent)
    data = ["--data-dir", root.name, "--epochs", "2", "--lr-ratio", "bias=0.5"]
    assert main([*FLAGS, *data, "--out", str(one)]) == 0
    monkeypatch.chdir(tmp_path.parent)
    assert main(["train", "--config", str(one / "config.yaml"), "--out", str(two)]) == 0
    assert _rows(one) == _rows(two)
    assert (one / "config.yaml").read_text() == (two / "config.yaml").read_text()

    three = tmp_path / "three"
    changed = ["--config", str(one / "config.yaml"), "--epochs", "1", "--lr-ratio", "bias=0.25"]
    assert main(["train", *changed, "--out", str(three)]) == 0
    config = json.loads((three / "result.json").read_text())["config"]
    assert (config["epochs"], config["lr_ratio.bias"], config["base_lr"]) == (1, 0.25, 1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--resume --epochs 9", "is of another configuration: epochs is 2 there and 9 here"),
        ("--resume --config x.yaml", "--resume goes on with the configuration in --out: leave out --config"),
        ("", "holds an unfinished run: add --resume to go on with it, or choose another folder"),
        ("--config /nowhere.yaml", "holds an unfinished run"),
    ],
)
def test_mistakes_with_an_unfinished_run(
    make_imagefolder: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    message: str,
) -> None:
    out = tmp_path / "out"
    data = ["--data-dir", str(make_imagefolder(PICTURES)), "--epochs", "2", "--method", "FT-Last"]
    assert main([*FLAGS, *data, "--out", str(out)]) == 0
    (out / "result.json").unlink()
    before = {path: path.read_bytes() for path in out.iterdir()}
    capsys.readouterr()
    assert main(["train", "--out", str(out), *arguments.split()]) == 2
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.count("\n") == 1
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_a_missing_configuration_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", "/nowhere.yaml", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "tinytl train: --config /nowhere.yaml: no such file\n"


def test_tensorboard_files_lie_in_the_run(make_imagefolder: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    data = ["--data-dir", str(make_imagefolder(PICTURES)), "--epochs", "1", "--method", "FT-Last"]
    assert main([*FLAGS, *data, "--out", str(tmp_path / "out"), "--tensorboard"]) == 0
    assert len(list((tmp_path / "out" / "tensorboard").glob("events.out.tfevents.*"))) == 1
