"""What a command imports before it answers: names of modules, not times, which depend on the machine."""

import subprocess
import sys

import pytest

from tests.support.places import ROOT
from tests.support.synthetic_study import write_study

HEAVY = ("torch", "torchvision", "ray", "mlflow", "pandas", "sklearn", "scipy", "matplotlib", "plotly")
DATABASES = ("optuna", "sqlalchemy")
CASES = [
    ("launch.py --help", (*HEAVY, *DATABASES, "numpy", "yaml", "rich")),
    ("launch.py --trails 3", (*HEAVY, *DATABASES, "numpy", "yaml", "rich")),
    ("launch.py --list-spaces", (*HEAVY, *DATABASES, "numpy")),
    ("-m tuner --help", (*HEAVY, *DATABASES, "numpy", "yaml", "rich")),
    ("-m tuner status begun --runs-dir {runs_dir}", (*HEAVY, "sqlalchemy")),
    ("-m tuner list --runs-dir {runs_dir}", HEAVY),
]


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_study(folder, "begun", 2, 3)
    return folder


@pytest.mark.parametrize(("words", "spared"), CASES, ids=[words for words, _ in CASES])
def test_a_command_spares_what_it_does_not_need(words, spared, runs_dir):
    argv = words.format(runs_dir=runs_dir).split()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *argv], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    imported = {
        line.rpartition("|")[2].strip().partition(".")[0]
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert done.returncode == (2 if "--trails" in words else 0), done.stderr[-500:]
    assert "tuner" in imported or "launch" in words
    assert sorted(imported & set(spared)) == []


def test_a_worker_loads_neither_a_compiler_nor_what_only_drivers_need():
    spared = {"mlflow", "sqlalchemy", "sklearn", "scipy", "matplotlib", "torchvision", "onnx"}
    spared |= {"torch._dynamo", "torch._inductor", "sympy", "triton"}
    code = f"import sys, tuner.trial.trainable; print(sorted({spared} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
