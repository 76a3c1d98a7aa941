"""What is refused before a study runs; a whole study from Python is in tests/integration/test_python.py."""

import subprocess
import sys

import pytest

import tuner
from tests.support.places import ROOT
from tuner.api.run import run


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"trails": 3}, "did you mean 'trials'"),
        ({"space": "jiont"}, "jiont"),
        ({"set": {"resolutionn": 32}}, "did you mean 'resolution'"),
        ({"dataset": "imagefolder"}, "--data-dir"),
    ],
)
def test_a_mistake_is_a_value_error_and_nothing_is_written(flags, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        run(runs_dir=tmp_path / "runs", **flags)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_in_one_line(tmp_path, monkeypatch):
    def prepare(*args):
        raise OSError(28, "No space left on device", "/a/file")

    monkeypatch.setattr("tuner.study.prepare.prepare", prepare)
    with pytest.raises(tuner.ConfigError, match=r"no space is left on a disk \(/a/file\)"):
        run(runs_dir=tmp_path)


def test_a_mistake_is_found_before_ray_and_torch_are_imported():
    code = (
        "import sys, tuner\n"
        "try:\n"
        "    tuner.run(trials=0)\n"
        "except ValueError as error:\n"
        "    print(error)\n"
        "assert not {'ray', 'mlflow', 'torch'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "--trials 0: must be at least 1\n", "")
