"""What docs/python.md and the notebook of examples/ say, done: whole studies from Python."""

import json
import os
import subprocess
import sys

import pytest

import tuner
from tests.support.notebook import cells_of
from tests.support.places import ROOT
from tests.support.studies import TIMEOUT_S, resume, run, write_pictures
from tests.tinytl.conftest import write_imagefolder
from tuner.__main__ import main

PAGE, NOTEBOOK = ROOT / "docs" / "python.md", ROOT / "examples" / "study.ipynb"


def ran(file, folder) -> str:
    """Runs a file's cells in a folder, in a process of their own; returns what they printed and showed."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    argv = [sys.executable, "-m", "tests.support.notebook", str(file)]
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=2 * TIMEOUT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A folder with pictures in which the page's examples were run, and what they showed."""
    folder = tmp_path_factory.mktemp("page")
    write_pictures(folder / "pictures")
    return folder, ran(PAGE, folder)


@pytest.mark.slow
def test_every_example_of_the_page_runs(page):
    folder, shown = page
    assert "unknown flag 'trails': did you mean 'trials'?" in shown
    assert "<Study first: 4 complete (of 4 requested), finished> finished" in shown
    assert (folder / "first.html").is_file() and (folder / "comparison" / "fronts.png").is_file()
    study = tuner.open_study("first", folder / "runs")
    assert len(study.trials) == 4 and study.best().command in shown
    first, resumed = (session.command for session in study.reading.sessions)
    assert first.startswith("python -m tuner launch --space=joint --dataset=imagefolder --trials=3")
    assert resumed.endswith("--name=first --resume")
    assert json.loads((study.folder / "study.json").read_text())["command"][1] == "tuner"


@pytest.mark.slow
def test_a_study_resumes_after_its_checkpoints_off_the_front_were_removed(page, capsys):
    folder, _ = page
    runs_dir = str(folder / "runs")
    kept = set(tuner.open_study("second", runs_dir).front["trial"])
    assert main(["prune", "second", "--runs-dir", runs_dir]) == 0
    assert "removed: checkpoints of" in capsys.readouterr().out
    left = {path.parent.name for path in (folder / "runs" / "second").glob("*/last.pt")}
    assert kept <= left < set(tuner.open_study("second", runs_dir).trials["trial"])
    run(resume("second", runs_dir, "--trials", "4"))
    study = tuner.open_study("second", runs_dir)
    assert (len(study.trials), study.state) == (4, "finished")
    assert not study.front["test_accuracy_top1"].isna().any()


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_says(tmp_path):
    folder = tmp_path / "examples"
    folder.mkdir()
    shown = ran(NOTEBOOK, folder)
    (study,) = tuner_studies(tmp_path / "runs")
    assert len(study.trials) == 4 and study.state == "finished"
    assert "[4/4]" in shown and "data:image/png;base64," in shown and "<iframe src=" in shown
    assert study.best(under_mib=40).command in shown and (study.folder / "report.html").is_file()


def tuner_studies(runs_dir):
    return [tuner.open_study(file.parent.name, runs_dir) for file in runs_dir.glob("*/study.json")]


REFUSED_TWICE = """
import ray, sys, tuner
for _ in range(2):
    try:
        tuner.run(dataset="imagefolder", data_dir=sys.argv[1], metric="macro_f1", space="separate_lr",
                  trials=1, epochs=1, weights="none", set={"resolution": 32}, runs_dir=sys.argv[2])
    except tuner.ConfigError as error:
        print("refused:", error)
"""


@pytest.mark.slow
def test_a_study_that_is_refused_while_ray_starts_leaves_none_behind(tmp_path):
    """The images are read while Ray starts; what they lack must be one line, and another study may begin."""
    write_imagefolder(tmp_path / "one", {"train/a": 6, "train/b": 6, "val/a": 3})
    where = [str(tmp_path / "one"), str(tmp_path / "runs")]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, "-c", REFUSED_TWICE, *where]
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=TIMEOUT_S)
    refused = [line for line in done.stdout.splitlines() if line.startswith("refused: ")]
    assert done.returncode == 0 and len(refused) == 2, done.stdout + done.stderr
    assert all("all 3 validation images are of one class (a)" in line for line in refused)
    flags = (
        f"--dataset imagefolder --data-dir {where[0]} --runs-dir {where[1]} --metric macro_f1 --weights none"
    )
    command = [sys.executable, str(ROOT / "launch.py"), "--space", "separate_lr", *flags.split()]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("use accuracy_top1, or validate on more classes")
    assert not (tmp_path / "runs").exists()


def test_the_notebook_is_kept_without_outputs():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
    assert len(cells_of(NOTEBOOK)) > 5
