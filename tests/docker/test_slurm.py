"""study.sbatch: what Ray is started with on each node, and a line for whatever is missing."""

import os
import shutil
import subprocess

import pytest

from tests.support.places import ROOT

SCRIPT = ROOT / "docker" / "slurm" / "study.sbatch"
RAY = """#!/bin/sh
echo "ray $*" >&2
[ -z "$BROKEN" ] || exit 0
while [ "$1" != -- ]; do shift; done
shift
"$@"
exit 1
"""
PYTHON = """#!/bin/sh
echo "python $*; $RAY_AUTH_MODE" >&2
[ "$CODE" != cut ] || { kill -KILL $PPID; exit; }
exit "$CODE"
"""


@pytest.fixture
def job(tmp_path):
    """Runs the script as Slurm would on the first of two nodes; the programs there print their flags."""
    checkout, nodes = tmp_path / "checkout", tmp_path / "bin"
    for folder in (checkout / ".venv" / "bin", checkout / "docker" / "secrets", nodes):
        folder.mkdir(parents=True)
    for name in ("with-secrets.sh", "require.sh"):
        shutil.copy(ROOT / "docker" / name, checkout / "docker")
    (checkout / "docker" / "secrets" / "ray_token").write_text("token")
    programs = {checkout / ".venv" / "bin" / "ray": RAY, checkout / ".venv" / "bin" / "python": PYTHON}
    for path, text in (programs | {nodes / "srun": '#!/bin/sh\nexec "$@"\n'}).items():
        path.write_text(text)
        path.chmod(0o755)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_ON_NODE": "16"}
    given = {"SLURM_SUBMIT_DIR": str(checkout), "RUNS_DIR": str(tmp_path / "runs"), "RAY_NODE_IP": "10.0.0.1"}

    def run(*flags, **env):
        env = {"PATH": f"{nodes}:{os.environ['PATH']}", "CODE": "0", "BROKEN": ""} | slurm | given | env
        done = subprocess.run(["bash", str(SCRIPT), *flags], env=env, capture_output=True, text=True)
        return done.returncode, done.stderr.splitlines()

    return run


def test_ray_starts_on_each_node_and_the_study_on_the_first(job, tmp_path):
    code, lines = job("--space", "joint", "--name", "two words")
    ray, python = lines
    assert code == 0
    assert ray.startswith("ray symmetric-run --address 10.0.0.1:6379 --min-nodes 2 --num-cpus 16 -- sh -c ")
    runs = tmp_path / "runs"
    study = f"launch.py --space joint --name two words --address 10.0.0.1:6379 --runs-dir {runs}"
    assert python == f"python {study}; token"
    assert list(runs.iterdir()) == []


def test_the_exit_code_is_the_studys_and_not_rays(job):
    assert job("--space", "joint", CODE="3")[0] == 3


def test_a_study_that_was_cut_off_is_no_success(job):
    code, lines = job("--space", "joint", CODE="cut")
    assert code == 1
    assert lines[-1] == "study.sbatch: the study was cut off; submit it again with --resume"


def test_a_ray_that_did_not_start_is_no_success(job):
    code, lines = job("--space", "joint", BROKEN="1")
    assert code == 2
    assert lines[-1] == "study.sbatch: Ray did not start on all 2 nodes: its lines above say why"


@pytest.mark.parametrize(
    ("flags", "env", "line"),
    [
        ([], {}, "study.sbatch: give the study's flags, such as: --space separate_lr --name spring"),
        (["-"], {"SLURM_JOB_ID": ""}, "study.sbatch: this is a job: submit it with sbatch"),
        (
            ["-"],
            {"RUNS_DIR": ""},
            "study.sbatch: set RUNS_DIR, a folder that every node sees at the same path",
        ),
        (["-"], {"RUNS_DIR": "runs"}, "study.sbatch: RUNS_DIR=runs: give its whole path"),
        (
            ["-"],
            {"SLURM_SUBMIT_DIR": "/"},
            "study.sbatch: no docker/with-secrets.sh in /: submit from the checkout",
        ),
        (
            ["-"],
            {"SECRETS_DIR": "/nowhere"},
            "with-secrets.sh: no secret /nowhere/ray_token: run 'make secrets', or ",
        ),
    ],
)
def test_what_is_missing_is_one_line(job, flags, env, line):
    code, lines = job(*flags, **env)
    assert code == 2 and len(lines) == 1 and lines[0].startswith(line)
