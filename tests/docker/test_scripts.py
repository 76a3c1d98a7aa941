"""The start-up scripts: secrets that are private and stay, and one line for whatever is missing."""

import os
import re
import socket
import stat
import subprocess
import tomllib

import pytest

from tests.support.places import ROOT
from tests.support.postgres import PROGRAMS

DOCKER = ROOT / "docker"
SECRETS = {
    "postgres_password",
    "optuna_password",
    "mlflow_password",
    "mlflow_admin_password",
    "mlflow_secret_key",
    "ray_token",
}


def call(script, expect=0, *flags, path=None, **env):
    """Runs a script; returns what it printed."""
    kept = {"HOME": os.environ["HOME"], "PATH": path or f"{os.environ['PATH']}:{PROGRAMS}"}
    done = subprocess.run(
        [str(DOCKER / script), *flags], capture_output=True, text=True, timeout=60, env=kept | env
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def secrets(tmp_path):
    call("make-secrets.sh", SECRETS_DIR=str(tmp_path / "secrets"))
    return tmp_path / "secrets"


def test_secrets_are_private_different_and_safe_in_a_url(secrets):
    texts = {path.name: path.read_text() for path in secrets.iterdir()}
    assert set(texts) == SECRETS and len(set(texts.values())) == len(SECRETS)
    assert all(len(text) == 64 and set(text) <= set("0123456789abcdef") for text in texts.values())
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o600}
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700


def test_a_secret_that_is_there_stays_and_one_that_is_lost_is_made(secrets):
    before = {path.name: path.read_text() for path in secrets.iterdir()}
    (secrets / "ray_token").unlink()
    (secrets / "optuna_password").write_text("our own")
    out = call("make-secrets.sh", SECRETS_DIR=str(secrets))
    after = {path.name: path.read_text() for path in secrets.iterdir()}
    assert out.startswith("1 new") and after["ray_token"] != before["ray_token"]
    assert after == before | {"ray_token": after["ray_token"], "optuna_password": "our own"}


@pytest.mark.parametrize("text", [None, ""], ids=["missing", "empty"])
@pytest.mark.parametrize(
    ("script", "secret"),
    [
        ("init-databases.sh", "postgres_password"),
        ("init-databases.sh", "mlflow_password"),
        ("start-mlflow.sh", "mlflow_password"),
        ("start-mlflow.sh", "mlflow_admin_password"),
        ("start-mlflow.sh", "mlflow_secret_key"),
        ("start-ray-head.sh", "ray_token"),
        ("start-ray-worker.sh", "ray_token"),
        ("with-secrets.sh", "ray_token"),
    ],
)
def test_without_a_secret_nothing_starts(script, secret, text, secrets, tmp_path):
    (secrets / secret).unlink()
    if text is not None:
        (secrets / secret).write_text(text)
    out = call(script, 2, "true", SECRETS_DIR=str(secrets), MLFLOW_ARTIFACTS_DESTINATION=str(tmp_path))
    assert out == f"{script}: no secret {secrets / secret}: run 'make secrets', or set SECRETS_DIR\n"


def test_a_command_is_given_the_secrets_in_its_environment_only(secrets):
    out = call("with-secrets.sh", 0, "env", SECRETS_DIR=str(secrets))
    given = dict(line.split("=", 1) for line in out.splitlines())
    assert given["RAY_AUTH_MODE"] == "token" and given["RAY_AUTH_TOKEN_PATH"] == str(secrets / "ray_token")
    assert given["PGPASSWORD"] == (secrets / "optuna_password").read_text()
    assert given["MLFLOW_TRACKING_PASSWORD"] == (secrets / "mlflow_admin_password").read_text()
    assert not {(secrets / name).read_text() for name in ("postgres_password", "ray_token")} & set(
        given.values()
    )


def test_mlflow_wants_a_place_for_its_artifacts(secrets):
    out = call("start-mlflow.sh", 2, SECRETS_DIR=str(secrets))
    assert out == "start-mlflow.sh: set MLFLOW_ARTIFACTS_DESTINATION, the folder of the artifacts\n"


@pytest.mark.parametrize(
    ("script", "variable"),
    [
        ("start-mlflow.sh", "MLFLOW_PORT"),
        ("start-ray-head.sh", "RAY_PORT"),
        ("start-ray-head.sh", "RAY_DASHBOARD_PORT"),
        ("start-ray-head.sh", "RAY_AGENT_PORT"),
    ],
)
def test_a_port_in_use_names_the_variable_to_change(script, variable, secrets, tmp_path):
    opened = [socket.socket() for _ in range(4)]
    for one in opened:
        one.bind(("127.0.0.1", 0))
    numbers = [str(one.getsockname()[1]) for one in opened]
    ports = dict(zip(("RAY_PORT", "RAY_DASHBOARD_PORT", "RAY_AGENT_PORT"), numbers[1:], strict=True))
    ports[variable] = numbers[0]
    for one in opened[1:]:
        one.close()
    with opened[0] as taken:
        taken.listen()
        out = call(script, 2, SECRETS_DIR=str(secrets), MLFLOW_ARTIFACTS_DESTINATION=str(tmp_path), **ports)
    assert out.startswith(f"{script}: port {ports[variable]} on ") and out.count("\n") == 1
    assert out.endswith(f"cannot be opened: is it in use? Set another {variable}\n")


def test_a_worker_names_a_head_that_does_not_exist(secrets):
    out = call("start-ray-worker.sh", 2, SECRETS_DIR=str(secrets), RAY_HEAD="nowhere.invalid:6379")
    assert out == (
        "start-ray-worker.sh: nothing listens at nowhere.invalid:6379: start it, or set another RAY_HEAD\n"
    )


def test_a_database_that_does_not_answer_is_told_without_a_password(secrets):
    out = call("init-databases.sh", 2, SECRETS_DIR=str(secrets), PGPORT="1")
    assert "the databases could not be made on 127.0.0.1:1 as postgres" in out
    assert not [path for path in secrets.iterdir() if path.read_text() in out]


def test_without_compose_make_cluster_says_what_to_install(tmp_path):
    """A `docker` that knows no `compose`, as Debian's package."""
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\nexit 1\n")
    docker.chmod(0o755)
    out = call("up.sh", 2, path=f"{tmp_path}:{os.environ['PATH']}", SECRETS_DIR=str(tmp_path / "secrets"))
    assert out.startswith("up.sh: 'docker compose' is missing: install Docker") and out.count("\n") == 1
    assert not (tmp_path / "secrets").exists()


def test_make_cluster_brings_up_what_was_asked_for(tmp_path):
    """What is called is written down by a stand-in: there may be no Docker where this runs."""
    calls = tmp_path / "calls"
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\necho "$TUNER_UID $*" >> {calls}\n')
    docker.chmod(0o755)
    with socket.socket() as one, socket.socket() as two:
        for opened in (one, two):
            opened.bind(("127.0.0.1", 0))
        ports = {"MLFLOW_PORT": str(one.getsockname()[1]), "DASHBOARD_PORT": str(two.getsockname()[1])}
        one.listen()
        given = {"SECRETS_DIR": str(tmp_path / "secrets"), "DEVICE": "cuda"} | ports
        path = f"{tmp_path}:{os.environ['PATH']}"
        out = call("up.sh", 2, path=path, **given)
        assert out.endswith(" on 127.0.0.1 cannot be opened: is it in use? Set another MLFLOW_PORT\n")
    out = call("up.sh", 2, path=path, WORKERS="3", **given)
    assert out == "up.sh: DEVICE=cuda needs one worker, with all GPUs: leave out WORKERS=3\n"
    out = call("up.sh", path=path, **given)
    uid = os.getuid() or 1000
    files = f"-f {DOCKER / 'compose.yaml'} -f {DOCKER / 'compose.cuda.yaml'}"
    assert (
        calls.read_text().splitlines()[-1] == f"{uid} compose {files} up --build --wait --scale ray-worker=1"
    )
    assert f"http://127.0.0.1:{ports['MLFLOW_PORT']} " in out
    assert {path.stat().st_uid for path in (tmp_path / "secrets").iterdir()} == {uid}


def test_the_image_has_what_the_service_needs_and_not_the_developers_tools() -> None:
    extras = re.findall(r"--extra (\S+)", (ROOT / "docker/Dockerfile").read_text())
    assert extras == ["tuner", "s3", "gs"]
    offered = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras) <= offered.keys()
