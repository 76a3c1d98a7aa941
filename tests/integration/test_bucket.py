"""Studies in a bucket of a real S3 server: killed and resumed on other machines, refused in one line."""

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.ray_cluster import TOKEN, RayCluster
from tests.support.s3_server import BUCKET, s3_server
from tests.support.studies import (
    TIMEOUT_S,
    command,
    refusal,
    resume,
    run,
    started,
    wait_for,
    write_pictures,
)

COMPLETE = b'"state":1'
"""In a journal: a trial trained all its epochs."""
pytestmark = pytest.mark.slow
PLACE = f"s3://{BUCKET}/team/runs"
PREFIX = "team/runs"
EPOCHS = 10
FLAGS = ["--space", "joint", "--trials", "3", "--epochs", str(EPOCHS), "--workers", "2"]
FLAGS += ["--scheduler", "none"]  # all trials complete, in whatever order they are judged
FLAGS += ["--set", "method=FT-Last,TinyTL-B"]
READ = ("s3:GetObject", "s3:ListBucket")
WITHOUT_S3FS = "raise ModuleNotFoundError('No module named s3fs', name='s3fs')\n"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as server:
        yield server


@pytest.fixture
def machine(server, tmp_path):
    """Returns the variables of a machine that has never seen the bucket."""

    def machine(name: str) -> dict[str, str]:
        times = {"TINYTL_STEP_TIMES": str(Path(__file__).parents[1] / "support" / "step_times.json")}
        return server.env | times | {"XDG_CACHE_HOME": str(tmp_path / name)}

    return machine


def tuner(*words: str, env: dict[str, str], expect: int = 0) -> str:
    return run([sys.executable, "-m", "tuner", *words, "--runs-dir", PLACE], expect, env)


def status(name: str, env: dict[str, str]) -> dict:
    return json.loads(tuner("status", name, "--json", env=env))


def epochs(server, study: str) -> dict[str, list[int]]:
    """Returns the epochs in the bucket's metrics, by trial."""
    found = {}
    for key in server.keys(f"{PREFIX}/{study}/"):
        if key.endswith("/metrics.jsonl"):
            rows = [json.loads(line) for line in server.read(key).decode().splitlines()]
            found[key.split("/")[-2]] = [row["epoch"] for row in rows]
    return found


def test_a_running_study_is_seen_and_stopped_from_elsewhere_and_has_one_driver(
    pictures, server, machine, tmp_path
):
    first, second = machine("first"), machine("second")
    flags = [*FLAGS, "--epochs", "2000", "--name", "long"]
    with started(command(pictures, PLACE, *flags), tmp_path / "log", first) as driver:
        wait_for(lambda: sum(map(len, epochs(server, "long").values())) >= 2, "epochs in the bucket")
        said = refusal(resume("long", PLACE), second)
        expected = rf"launch.py: study long is being run by process {driver.pid} on \S+: wait .*\n"
        assert re.fullmatch(expected, said)
        said = refusal(command(pictures, PLACE, *flags), second)
        assert said.startswith(f"launch.py: study long exists under {PLACE}: add --resume to continue it")
        assert status("long", second)["trials"]["running"] >= 1
        assert re.search(r"^long +running +0/3 ", tuner("list", env=second), re.MULTILINE)
        out = tuner("stop", "long", env=second)
        assert f"python launch.py --name long --resume --runs-dir {PLACE}" in out
        driver.wait(TIMEOUT_S)
    assert driver.returncode == 130
    assert status("long", second)["trials"]["running"] == 0


def test_a_study_killed_on_one_machine_is_resumed_on_another_and_read_on_a_third(
    pictures, server, machine, tmp_path
):
    first, second, third = machine("first"), machine("second"), machine("third")
    with started(command(pictures, PLACE, *FLAGS, "--name", "s"), tmp_path / "log", first) as driver:
        wait_for(lambda: epochs(server, "s"), "an epoch in the bucket")
        wait_for(lambda: COMPLETE in server.read(f"{PREFIX}/s/optuna.journal"), "a trial's end in its record")
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    cut_off, saved = status("s", third), epochs(server, "s")
    assert ended(cut_off) >= 1

    out = run(resume("s", PLACE), env=second)
    found = status("s", third)
    assert found["trials"] | {"infeasible": 0} == {
        "complete": 3,
        "pruned": 0,
        "failed": 0,
        "infeasible": 0,
        "running": 0,
    }
    after = epochs(server, "s")
    assert saved.keys() <= after.keys() and len(after) == 3
    assert all(numbers == list(range(1, EPOCHS + 1)) for numbers in after.values())
    assert f"Picture: {PLACE}/s/front.png" in out and f"--runs-dir {PLACE}" in out
    assert found == status("s", second)

    assert tuner("sync", "s", env=third) == "0 runs written, 4 in line\n"
    assert "s3://" in tuner("report", "s", env=third)
    best = json.loads(tuner("best", "s", "--json", env=third))["trial"]
    out = tuner("export", "s", "--out", str(tmp_path / "device"), env=third)
    assert best in out and (tmp_path / "device" / "model.onnx").is_file()
    tuner("export", "s", best, "--training", "--out", str(tmp_path / "board"), env=third)
    assert (tmp_path / "board" / "step.onnx").is_file()
    everything = b"".join(server.read(key) for key in server.keys(PREFIX) if not key.endswith(".pt"))
    assert server.env["AWS_SECRET_ACCESS_KEY"].encode() not in everything
    assert str(tmp_path).encode() + b"/first" not in everything

    tuner("delete", "s", "--yes", env=third)
    assert server.keys(f"{PREFIX}/s/") == []
    assert "no study s under" in tuner("status", "s", env=second, expect=2)


def ended(found: dict) -> int:
    return found["trials"]["complete"] + found["trials"]["pruned"] + found["trials"]["failed"]


@pytest.mark.parametrize(
    ("place", "change", "said"),
    [
        ("hdfs://host/runs", {}, "--runs-dir hdfs://host/runs: hdfs:// is not supported: name a folder, s3:"),
        ("s3://nobody-has-this/runs", {}, "there is no bucket nobody-has-this: make it, or name another"),
        (PLACE, {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "there are no credentials: set AWS_"),
        (PLACE, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "the bucket does not answer"),
    ],
)
def test_a_bucket_that_cannot_be_used_is_one_line_before_anything_starts(
    pictures, server, machine, place, change, said
):
    before = server.keys()
    line = refusal(command(pictures, place, "--name", "bad"), machine("first") | change)
    assert line.startswith("launch.py: --runs-dir ") and said in line
    assert server.keys() == before


def test_a_user_who_may_not_write_is_told_before_anything_starts(pictures, server, machine):
    with server.checking_access(*READ) as reader:
        keys = {name: reader[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        line = refusal(command(pictures, PLACE, "--name", "bad"), machine("first") | keys)
    assert "access is denied: allow reading, writing, listing and removing there" in line


def test_a_missing_package_is_told_here(pictures, server, machine, tmp_path):
    (tmp_path / "s3fs.py").write_text(WITHOUT_S3FS)
    line = refusal(command(pictures, PLACE), machine("first") | {"PYTHONPATH": str(tmp_path)})
    assert line == "launch.py: --runs-dir s3:// needs the package s3fs: pip install 'tinytl-tuner[s3]'\n"


@pytest.fixture(scope="module")
def cluster(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("head")
    # A short name: Ray's sockets lie in there.
    cluster = RayCluster(Path(tempfile.mkdtemp(prefix="ray-")))
    try:
        with cluster.head(folder / "log", server.env | {"XDG_CACHE_HOME": str(folder / "cache")}):
            wait_for(lambda: cluster.nodes_alive() == 1, "Ray's head")
            yield cluster
    finally:
        shutil.rmtree(cluster.folder, ignore_errors=True)


def test_nodes_that_share_nothing_but_a_bucket_train_one_study(pictures, cluster, server, machine, tmp_path):
    node_flags = ["--address", cluster.address, "--num-cpus", "1"]
    with cluster.node(tmp_path / "log of node", *node_flags, env=machine("node")):
        wait_for(lambda: cluster.nodes_alive() == 2, "a second node")
        flags = [*FLAGS, "--name", "shared", "--address", cluster.address]
        out = run(command(pictures, PLACE, *flags), env=machine("driver") | TOKEN)
    assert "3 complete (of 3 requested)" in out
    assert status("shared", machine("third"))["trials"]["complete"] == 3
    assert all(numbers == list(range(1, EPOCHS + 1)) for numbers in epochs(server, "shared").values())
    assert list((tmp_path / "node").glob("tinytl/buckets/*/work/shared")), "no trial trained there"
    wait_for(lambda: cluster.nodes_alive() == 1, "the node's end")


@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "there are no credentials: set AWS_ACCESS"),
        ({"PYTHONPATH": "WITHOUT"}, "needs the package s3fs: pip install 'tinytl-tuner[s3]'"),
    ],
    ids=["credentials", "package"],
)
def test_what_a_node_lacks_is_told_before_the_first_trial(
    pictures, cluster, server, machine, tmp_path, lacks, said
):
    (tmp_path / "s3fs.py").write_text(WITHOUT_S3FS)
    lacks = {name: str(tmp_path) if value == "WITHOUT" else value for name, value in lacks.items()}
    path = ("env", f"PYTHONPATH={tmp_path}") if "PYTHONPATH" in lacks else ()
    flags = ["--address", cluster.address, "--num-cpus", "1"]
    with cluster.node(tmp_path / "log of node", *flags, before=path, env=machine("node") | lacks):
        wait_for(lambda: cluster.nodes_alive() == 2, "a second node")
        argv = command(pictures, PLACE, *FLAGS, "--name", "lacking", "--address", cluster.address)
        out = run(argv, expect=2, env=machine("driver") | TOKEN)
    last = out.strip().splitlines()[-1]
    assert last.startswith("launch.py: node ") and "cannot use the bucket: --runs-dir s3://" in last
    assert said in last and "Traceback" not in out
    assert not server.keys(f"{PREFIX}/lacking/")
    wait_for(lambda: cluster.nodes_alive() == 1, "the node's end")


def test_a_model_is_finished_in_the_bucket_sent_whole_and_its_commands_work_there(
    pictures, server, machine, tmp_path
):
    first, second, third = machine("first"), machine("second"), machine("third")
    flags = "--space update_method --trials 1 --epochs 1 --workers 1 --sampler random --name m".split()
    run(command(pictures, PLACE, *flags), env=first)
    out = tuner("finish", "m", "--epochs", "1", "--register", "colors", env=second)
    assert f"Model: {PLACE}/m/model (README.md is its card)" in out and "registered: models:/colors/1" in out
    sent = {key.removeprefix(f"{PREFIX}/m/model/"): key for key in server.keys(f"{PREFIX}/m/model/")}
    assert {"README.md", "config.yaml", "model.json", "weights.safetensors"} <= set(sent)
    about = json.loads(server.read(sent["model.json"]))
    for name, digest in about["sha256"].items():
        assert hashlib.sha256(server.read(sent[name])).hexdigest() == digest

    (used,) = (line for line in out.splitlines() if line.startswith("Use it: "))
    words = shlex.split(used.removeprefix("Use it: "))
    assert words[:4] == ["python", "-m", "tinytl", "predict"] and words[-1] == "PICTURE"
    picture = str(pictures / "test" / "green" / "0.png")
    shown = run([sys.executable, *words[1:-1], picture, "--json"], env=second)
    assert json.loads(shown)[0]["label"] in about["classes"]
    uri = re.search(r"MLFLOW_TRACKING_URI=(\S+) mlflow models serve -m (models:/\S+)", out)
    code = (
        "import mlflow, sys; print(mlflow.pyfunc.load_model(sys.argv[1]).predict({'picture': [sys.argv[2]]}))"
    )
    env = second | {"MLFLOW_TRACKING_URI": uri[1]}
    assert "probability" in run([sys.executable, "-c", code, uri[2], picture], env=env)

    # On another machine the model is there: nothing is made anew unless that is asked for.
    said = tuner("finish", "m", env=third, expect=2)
    assert f"in {PLACE}/m/model: use it, or add --replace to make another" in said
    tuner("finish", "m", "--epochs", "2", "--replace", env=third)
    assert json.loads(server.read(sent["model.json"]))["epochs"] == 2
    said = tuner("finish", "m", "--epochs", "1", env=second, expect=2)
    assert (
        "of update_method-000 after 2 epochs" in said
        and "--epochs 1 would make another: add --replace" in said
    )
    tuner("delete", "m", "--yes", env=second)
    assert server.keys(f"{PREFIX}/m/") == []
