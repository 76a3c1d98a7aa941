"""Studies in a bucket of a real S3 server: killed and resumed on other machines, refused in one line."""

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.support.s3_server import BUCKET, s3_server
from tests.support.studies import (
    command,
    refusal,
    resume,
    run,
    started,
    wait_for,
    write_pictures,
)

pytestmark = pytest.mark.slow
PLACE = f"s3://{BUCKET}/team/runs"
PREFIX = "team/runs"
EPOCHS = 30
FLAGS = ["--space", "joint", "--trials", "3", "--epochs", str(EPOCHS), "--workers", "2"]
FLAGS += ["--set", "method=FT-Last,TinyTL-B"]
READ, WRITE = ("s3:GetObject", "s3:ListBucket"), ("s3:PutObject", "s3:DeleteObject")


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


def test_a_study_killed_on_one_machine_is_resumed_on_another_and_read_on_a_third(
    pictures, server, machine, tmp_path
):
    first, second, third = machine("first"), machine("second"), machine("third")
    with started(command(pictures, PLACE, *FLAGS, "--name", "s"), tmp_path / "log", first) as driver:
        wait_for(lambda: sum(map(len, epochs(server, "s").values())) >= 2, "epochs in the bucket")
        said = refusal(resume("s", PLACE), second)
        assert re.fullmatch(
            rf"launch.py: study s is being run by process {driver.pid} on \S+: wait .*\n", said
        )
        said = refusal(command(pictures, PLACE, *FLAGS, "--name", "s"), second)
        assert (
            said
            == f"launch.py: study s exists under {PLACE}: add --resume to continue it, or change --name\n"
        )
        assert status("s", third)["trials"]["running"] >= 1
        assert re.search(r"^s +running +\d/3 ", tuner("list", env=third), re.MULTILINE)
        wait_for(lambda: EPOCHS in map(len, epochs(server, "s").values()), "a trial's last epoch")
        wait_for(lambda: ended(status("s", third)), "its record")
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
    everything = b"".join(server.read(key) for key in server.keys(PREFIX) if not key.endswith(".pt"))
    assert server.env["AWS_SECRET_ACCESS_KEY"].encode() not in everything
    assert str(tmp_path).encode() + b"/first" not in everything

    tuner("delete", "s", "--yes", env=third)
    assert server.keys(f"{PREFIX}/s/") == []
    assert "no study s under" in tuner("status", "s", env=second, expect=2)


def ended(found: dict) -> int:
    return found["trials"]["complete"] + found["trials"]["pruned"] + found["trials"]["failed"]
