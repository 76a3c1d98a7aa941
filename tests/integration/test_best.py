"""A study's best trial, trained again by the printed command and exported by the other."""

import json
import shlex
import subprocess
import sys

import pytest
import torch

from tests.support.places import ROOT
from tests.support.studies import TIMEOUT_S, command, run, write_pictures

pytestmark = pytest.mark.slow


def test_the_printed_command_repeats_the_trial_and_its_export_agrees(tmp_path):
    runs, again = tmp_path / "runs", tmp_path / "again"
    study = "--space joint --name s --trials 2 --epochs 1 --workers 1 --sampler random".split()
    run(command(write_pictures(tmp_path / "pictures"), runs, *study))
    tuner = [sys.executable, "-m", "tuner"]
    best = json.loads(run([*tuner, "best", "s", "--runs-dir", str(runs), "--json"]))
    words = shlex.split(best["command"])
    assert words[0] == "python" and words[-2] == "--out"
    subprocess.run(
        [sys.executable, *words[1:-1], str(again)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=TIMEOUT_S,
    )
    result = json.loads((again / "result.json").read_text())
    assert result["val_accuracy_top1"] == best["accuracy_top1"]
    assert result["test_accuracy_top1"] == best["test_accuracy_top1"]
    trial = runs / "s" / best["trial"]
    was, now = (torch.load(folder / "last.pt", weights_only=True)["net"] for folder in (trial, again))
    # The trial trained with its fastest plan, and the command has the front's. The gradient is the same but
    # for rounding, which may carry an activation over a kink of ReLU6; Adam then moves few numbers otherwise.
    assert was.keys() == now.keys()
    pairs = [(now[name].double(), tensor.double()) for name, tensor in was.items()]
    off = [(mine - theirs).abs() - 1e-3 * theirs.abs() for mine, theirs in pairs]
    assert max(float(one.max()) for one in off) < 2e-3
    assert sum(int((one > 2e-4).sum()) for one in off) < 1e-4 * sum(one.numel() for one in off)

    run([*tuner, "export", "s", "--runs-dir", str(runs), "--out", str(tmp_path / "out")])
    about = json.loads((tmp_path / "out" / "model.json").read_text())
    assert about["check"]["images"] == "8 validation images of pictures"
    assert about["val_accuracy_top1"] == best["accuracy_top1"]
    judged = run([sys.executable, "-m", "tinytl", "evaluate", str(tmp_path / "out"), "--json"])
    assert json.loads(judged)["accuracy_top1"] == best["accuracy_top1"]
