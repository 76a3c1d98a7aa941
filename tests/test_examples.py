"""The examples' commands are understood; nothing is downloaded."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.places import ROOT
from tinytl.__main__ import build_parser
from tinytl.config.flags import given_fields
from tinytl.config.flat import config_from_flat

EXAMPLES = ROOT / "examples"
STUB = """#!/usr/bin/env bash
printf '%q ' "$@" >> "$CALLS"; echo >> "$CALLS"
"""
RUNS = {
    "tinytl_report_mobilenet_v2": 6,
    "tinytl_report_proxylessnas_mobile": 6,
    "separate_lr": 3,
    "from_scratch": 3,
    "distributed": 1,
}


@pytest.mark.parametrize("name", RUNS)
def test_a_script_s_commands_are_understood(name: str, tmp_path: Path) -> None:
    for program in ("python", "torchrun"):
        (tmp_path / program).write_text(STUB)
        (tmp_path / program).chmod(0o755)
    calls = tmp_path / "calls"
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls)}
    arguments = ["/data/my sets", "/data/net.pth"] if "proxylessnas" in name else ["/data/my sets"]
    script = EXAMPLES / f"{name}.sh"
    subprocess.run([script, *arguments, "--epochs", "3"], env=environment, check=True, timeout=60)
    configs = []
    for line in calls.read_text().splitlines():
        words = shlex.split(line)
        args = build_parser().parse_args(words[words.index("tinytl") + 1 :])
        if args.command == "train":
            configs.append(config_from_flat(given_fields(args)))
    assert len(configs) == RUNS[name]
    assert {config.data_dir for config in configs} == {"/data/my sets"}
    assert {config.epochs for config in configs} == {3}

    without = subprocess.run(
        [script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert without.returncode != 0 and "DATA_DIR" in without.stderr


def test_every_script_is_tried() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.sh")} == set(RUNS)


def test_a_plain_loop_keeps_its_budget() -> None:
    program = [sys.executable, EXAMPLES / "any_network.py"]
    flags = ["--resolution", "64", "--steps", "2", "--budget-mib", "9"]
    shown = subprocess.run([*program, *flags], capture_output=True, text=True, timeout=120, check=True).stdout
    predicted, measured = (float(line.split()[1]) for line in shown.splitlines()[1:])
    assert measured <= 9 and predicted == pytest.approx(measured, rel=0.02)
    assert "micro-batches of" in shown


@pytest.mark.slow
def test_gradient_checkpoints_save_memory() -> None:
    command = [
        sys.executable,
        EXAMPLES / "gradient_checkpoint.py",
        "--batch-sizes",
        "8",
        "--resolution",
        "64",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    head, line = done.stdout.splitlines()
    assert head.split()[-1] == "(MiB)"
    without, segment, function = map(float, line.split()[1:])
    assert segment < 0.8 * without and function < 0.8 * without
