"""A Ray cluster that is there, with its token: joined, sent jobs, and what it cannot do is one line."""

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.ray_cluster import TOKEN, RayCluster
from tests.support.studies import (
    TIMEOUT_S,
    command,
    epochs_saved,
    processes_under,
    raylet_of,
    records_of,
    run,
    started,
    status_of,
    wait_for,
    write_pictures,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    # A short name: Ray's sockets lie in there.
    cluster = RayCluster(Path(tempfile.mkdtemp(prefix="ray-")))
    try:
        with cluster.head(tmp_path_factory.mktemp("head") / "log"):
            wait_for(lambda: cluster.nodes_alive() == 1, "Ray's head")
            yield cluster
    finally:
        shutil.rmtree(cluster.folder, ignore_errors=True)


def tuner(*args, expect=0) -> str:
    return run([sys.executable, "-m", "tuner", *args], expect, TOKEN)


def last_line(out: str) -> str:
    return out.strip().splitlines()[-1]


def test_a_job_is_left_watched_stopped_and_goes_on(pictures, cluster, tmp_path):
    runs_dir = tmp_path / "runs"
    flags = ["--space", "update_method", "--name", "job", "--trials", "2", "--epochs", "15"]
    argv = [*command(pictures, runs_dir, *flags), "--submit", cluster.url]
    with started(argv, tmp_path / "log", TOKEN) as one:
        wait_for(lambda: epochs_saved(runs_dir / "job") >= 1, "an epoch")
        one.send_signal(signal.SIGINT)
        one.wait(TIMEOUT_S)
    log = (tmp_path / "log").read_text()
    assert one.returncode == 130 and "Traceback" not in log, log
    assert f"Sent to {cluster.url} as job job (" in log and "Study job: 2 trials of 15 epochs" in log
    assert f"Stop:   python -m tuner stop job --address {cluster.url}" in log
    assert "running" in tuner("jobs", "--address", cluster.url)

    out = tuner("stop", "job", "--address", cluster.url)
    assert "running trials end their epoch and are saved" in out and "Stopped. Resume:" in out
    assert status_of("job", runs_dir)["trials"]["running"] == 0
    saved = epochs_saved(runs_dir / "job")
    assert 1 <= saved < 30
    assert "stopped" in tuner("jobs", "--address", cluster.url)
    out = tuner("stop", "job", "--address", cluster.url, expect=2)
    assert out.startswith("tuner stop: study job does not run: its job job has ended")

    again = ["--name", "job", "--resume", "--runs-dir", str(runs_dir), "--submit", cluster.url]
    out = run([sys.executable, "launch.py", *again], env=TOKEN)
    assert "as job job-2" in out and "2 complete (of 2 requested)" in out
    assert epochs_saved(runs_dir / "job") == 30
    assert len(records_of("job", runs_dir)) == 2
    assert "2/2" in tuner("jobs", "--address", cluster.url)
    assert "2 complete (of 2 requested)" in tuner("jobs", "--follow", "job", "--address", cluster.url)


def test_a_job_that_is_refused_on_the_cluster_returns_its_exit_code(cluster, tmp_path):
    out = run(command("/nowhere", tmp_path / "runs", "--submit", cluster.url), expect=2, env=TOKEN)
    assert last_line(out) == "launch.py: --data-dir /nowhere: no such folder"


@pytest.mark.parametrize(
    ("token", "said"), [({"RAY_AUTH_TOKEN": "d" * 32}, "different"), ({"RAY_AUTH_MODE": "disabled"}, "none")]
)
def test_a_client_without_the_clusters_token_is_told(pictures, cluster, tmp_path, token, said):
    flags = command(pictures, tmp_path / "runs", "--space", "update_method")
    out = run([*flags, "--address", cluster.address], expect=2, env=TOKEN | token)
    assert f"launch.py: --address {cluster.address}: the cluster wants its token, and " in last_line(out)
    assert said in last_line(out) and "Traceback" not in out and "gcs_client" not in out
    assert not list((tmp_path / "runs").iterdir())
    out = run([*flags, "--submit", cluster.url], expect=2, env=TOKEN | token)
    assert f"--submit {cluster.url}: the cluster wants its token" in out and out.count("\n") == 1


def test_resources_that_the_cluster_has_not_are_named(pictures, cluster, tmp_path):
    flags = command(pictures, tmp_path / "runs", "--address", cluster.address)
    out = run([*flags, "--gpus-per-trial", "0.5"], expect=2, env=TOKEN)
    has = "(1 node with 1 CPUs and 0 GPUs)"
    assert last_line(out) == f"launch.py: --gpus-per-trial 0.5: trials have no GPU here {has}: leave it out"
    out = run([*flags, "--set", "device=cuda"], expect=2, env=TOKEN)
    assert f"device=cuda, but Ray finds no GPU in the cluster {has}" in last_line(out)


def test_a_node_with_another_torch_is_told(pictures, cluster, tmp_path):
    other = tmp_path / "site" / "torch-2.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.0.1\n")
    # Before all else on its path.
    node = cluster.node(
        tmp_path / "node",
        *("--address", cluster.address, "--num-cpus", "1"),
        env={"PYTHONPATH": str(other.parent)},
        before=("env", f"PYTHONPATH={other.parent}"),
    )
    with node:
        wait_for(lambda: cluster.nodes_alive() == 2, "a second node")
        flags = command(pictures, tmp_path / "runs", "--address", cluster.address)
        out = run(flags, expect=2, env=TOKEN)
    assert " has torch 2.0.1, this machine 2." in last_line(out) and "node 1" in last_line(out)
    wait_for(lambda: cluster.nodes_alive() == 1, "the node's end")


def test_a_node_that_does_not_see_the_studys_folder_is_told(pictures, cluster, tmp_path):
    runs_dir = tmp_path / "runs"
    runs_dir.mkdir()
    mounts = "-m" if os.geteuid() == 0 else "-mr"  # only root may mount: another is root to itself
    hidden = ("unshare", mounts, "sh", "-c", f'mount -t tmpfs none {runs_dir} && exec "$@"', "hidden")
    flags = ["--address", cluster.address, "--num-cpus", "1"]
    with cluster.node(tmp_path / "node", *flags, before=hidden) as node:
        wait_for(lambda: raylet_of(node) and cluster.nodes_alive() == 2, "a second node")
        argv = command(pictures, runs_dir, "--address", cluster.address, "--name", "s")
        out = run(argv, expect=2, env=TOKEN)
        assert f"does not see {runs_dir / 's'} (No such file or directory): give" in last_line(out)
        assert not (runs_dir / "s").exists()
        assert not [line for line in processes_under(node.pid).values() if "TinyTL" in line]
    wait_for(lambda: cluster.nodes_alive() == 1, "the node's end")
