"""The service as a team runs it, on the loopback: the scripts of docker/ start it, a node dies in a study."""

import json
import os
import re
import signal
import subprocess
import urllib.error
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from mlflow.tracking import MlflowClient

from tests.support import postgres as database
from tests.support.places import ROOT
from tests.support.studies import (
    TIMEOUT_S,
    command,
    epochs_saved,
    free_port,
    processes_under,
    run,
    started,
    status_of,
    wait_for,
    write_pictures,
)

pytestmark = pytest.mark.slow
DOCKER = ROOT / "docker"
NAME, TRIALS, EPOCHS = "team", 4, 4
ACTOR = "ray::(TinyTL|update_method-)"
"""How the processes that train are called: by their class, or by their trial."""
STARTS = 5
"""How often a node is started whose processes do not answer within the half minute that Ray grants them."""
OBJECTS = ["--object-store-memory", str(100 * 2**20)]


@dataclass(frozen=True, kw_only=True)
class Service:
    """Addresses of the running service, its nodes, and what the scripts were given."""

    env: dict[str, str]
    secrets: dict[str, str]
    mlflow: str
    dashboard: str
    storage: str
    head: subprocess.Popen
    workers: list[subprocess.Popen]
    folder: Path


def answers(*urls: str) -> bool:
    argv = [str(DOCKER / "check-health.sh"), *urls]
    return subprocess.run(argv, capture_output=True).returncode == 0


def status_code(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def is_up(log: Path) -> bool:
    return "Ray runtime started" in log.read_text()


def everything_under(nodes: list[subprocess.Popen]) -> dict[int, str]:
    found: dict[int, str] = {}
    for node in nodes:
        found |= processes_under(node.pid)
    return found


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    mlflow_port, ray_port, dashboard_port = free_port(), free_port(), free_port()
    with ExitStack() as stack:
        server = stack.enter_context(database.postgres(folder))
        env = {
            "PATH": f"{os.environ['PATH']}:{database.PROGRAMS}",
            "SECRETS_DIR": str(folder / "secrets"),
            "PGHOST": "127.0.0.1",
            "PGPORT": str(server.port),
            "MLFLOW_PORT": str(mlflow_port),
            "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"),
            "RAY_PORT": str(ray_port),
            "RAY_DASHBOARD_PORT": str(dashboard_port),
            "RAY_AGENT_PORT": str(free_port()),
            "RAY_HEAD": f"127.0.0.1:{ray_port}",
        }
        run([str(DOCKER / "make-secrets.sh")], env=env)
        (folder / "secrets" / "postgres_password").write_text(database.PASSWORD)
        for _ in range(2):  # as at each start
            run([str(DOCKER / "init-databases.sh")], env=env | {"PGUSER": database.USER})

        def start(script: str, name: str, *flags: str, **more: str) -> subprocess.Popen:
            argv = [str(DOCKER / script), *flags]
            return stack.enter_context(started(argv, folder / f"{name}.log", env=env | more))

        def start_node(script: str, name: str, *flags: str, **more: str) -> subprocess.Popen:
            log = folder / f"{name}.log"
            for _ in range(STARTS):
                node = start(script, name, *OBJECTS, *flags, **more)
                wait_for(lambda node=node: node.poll() is not None or is_up(log), name)
                if is_up(log):
                    return node
            raise AssertionError(log.read_text())

        mlflow = start("start-mlflow.sh", "mlflow")
        head = start_node("start-ray-head.sh", "head", "--ray-client-server-port", str(free_port()))
        workers = [
            start_node(
                "start-ray-worker.sh",
                f"worker{index}",
                # As on machines of their own: a node unpacks a job's code where another may run it.
                *("--temp-dir", stack.enter_context(TemporaryDirectory(prefix="ray"))),
                *("--dashboard-agent-listen-port", str(free_port())),
                RAY_NUM_CPUS="1",
            )
            for index in range(2)
        ]
        urls = f"http://127.0.0.1:{mlflow_port}", f"http://127.0.0.1:{dashboard_port}"
        node_ip = re.search(r"ray start --address='(.+):\d+'", (folder / "head.log").read_text())
        assert node_ip is not None
        agent = f"http://{node_ip[1]}:{env['RAY_AGENT_PORT']}/api/local_raylet_healthz"
        wait_for(lambda: answers(f"{urls[0]}/health", f"{urls[1]}/api/gcs_healthz", agent), "the servers")
        yield Service(
            env=env,
            secrets={path.name: path.read_text() for path in (folder / "secrets").iterdir()},
            mlflow=urls[0],
            dashboard=urls[1],
            storage=f"postgresql+psycopg://optuna@127.0.0.1:{server.port}/optuna",
            head=head,
            workers=workers,
            folder=folder,
        )
        nodes = [mlflow, head, *workers]
        below = everything_under(nodes)
        for process in reversed(nodes):
            process.terminate()
        for process in nodes:
            process.wait(60)
        left = [pid for pid, line in below.items() if command_line(pid) == line]
        wait_for(lambda: not [pid for pid in left if command_line(pid) == below[pid]], f"the end of {left}")


def command_line(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return None


@pytest.fixture(scope="module")
def study(service, tmp_path_factory):
    """Sends a study of which a node is killed with all that it runs; returns the folder of its runs."""
    runs_dir, doomed = service.folder / "runs", service.workers[0]
    flags = ["--space", "update_method", "--name", NAME, "--trials", str(TRIALS), "--epochs", str(EPOCHS)]
    flags += ["--submit", service.dashboard, "--storage", service.storage, "--tracking-uri", service.mlflow]
    launch = command(write_pictures(tmp_path_factory.mktemp("pictures")), runs_dir, *flags)
    log = service.folder / "job.log"
    with started([str(DOCKER / "with-secrets.sh"), *launch], log, env=service.env) as sender:

        def trains() -> bool:
            assert sender.poll() is None, log.read_text()
            lines = processes_under(doomed.pid).values()
            return epochs_saved(runs_dir / NAME) >= 3 and any(re.match(ACTOR, line) for line in lines)

        wait_for(trains, "a trial on the node that is to die")
        shown = everything_under([service.head, *service.workers]).values()
        (service.folder / "processes.log").write_text("\n".join(shown))
        for pid in [doomed.pid, *processes_under(doomed.pid)]:
            os.kill(pid, signal.SIGKILL)
        sender.wait(TIMEOUT_S)
    assert sender.returncode == 0 and f"{TRIALS} complete (of {TRIALS} requested)" in log.read_text(), (
        log.read_text()
    )
    return runs_dir


@pytest.fixture
def client(service, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", service.secrets["mlflow_admin_password"])
    return MlflowClient(service.mlflow)


def runs_of(client, kind):
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(experiments, f"tags.study = '{NAME}' and tags.kind = '{kind}'")


def test_a_study_loses_nothing_with_a_node(service, study, client, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", service.secrets["optuna_password"])
    status = status_of(NAME, study, "--storage", service.storage)
    counts = status["trials"]
    assert (counts["complete"], counts["failed"], counts["running"]) == (TRIALS, 0, 0)
    trials = {found.data.tags["trial"]: found for found in runs_of(client, "trial")}
    assert sorted(trials) == [f"update_method-{index:03d}" for index in range(TRIALS)]
    assert {found.info.status for found in trials.values()} == {"FINISHED"}
    for name, found in trials.items():
        rows = [json.loads(line) for line in (study / NAME / name / "metrics.jsonl").read_text().splitlines()]
        assert [row["epoch"] for row in rows] == list(range(1, EPOCHS + 1))
        history = client.get_metric_history(found.info.run_id, "accuracy_top1")
        assert [(point.step, point.value) for point in history] == [
            (row["epoch"], row["accuracy_top1"]) for row in rows
        ]
    on_front = {name for name, found in trials.items() if found.data.tags["on_front"] == "true"}
    assert on_front == {row["trial"] for row in status["pareto"]} != set()


def test_artifacts_come_through_the_server(service, study, client, tmp_path):
    (parent,) = runs_of(client, "study")
    assert parent.info.artifact_uri.startswith("mlflow-artifacts:")
    client.log_text(parent.info.run_id, "seen by all", "note.txt")
    (stored,) = (service.folder / "artifacts").rglob("note.txt")
    assert stored.read_text() == "seen by all"
    files = [item.path for item in client.list_artifacts(parent.info.run_id) if not item.is_dir]
    assert "note.txt" in files
    for path in files:
        assert Path(client.download_artifacts(parent.info.run_id, path, str(tmp_path))).stat().st_size > 0


def test_no_password_is_written_or_shown(service, study, client):
    session = re.search(r"saved to:\s*(\S+)/logs/", (service.folder / "head.log").read_text())
    assert session is not None
    logs = Path(re.sub(r"\x1b\[\d+m", "", session[1])) / "logs"
    files = [
        path
        for path in (*service.folder.rglob("*"), *logs.rglob("*"))
        if path.is_file() and path.parent.name != "secrets"
    ]
    assert len(files) > 20 and any(path.name == "processes.log" for path in files)
    tags = repr([found.to_dictionary() for kind in ("study", "trial") for found in runs_of(client, kind)])
    for name, secret in service.secrets.items():
        assert secret not in tags, name
        assert [path for path in files if secret.encode() in path.read_bytes()] == [], name


def test_nobody_is_answered_without_a_password_a_token_or_the_right_host(service):
    search = f"{service.mlflow}/api/2.0/mlflow/experiments/search?max_results=1"
    assert status_code(search) == 401
    assert status_code(search, Host="elsewhere.example") == 403
    assert status_code(f"{service.dashboard}/api/jobs/") == 401
    token = service.secrets["ray_token"]
    assert status_code(f"{service.dashboard}/api/jobs/", Authorization=f"Bearer {token}") == 200


def test_each_user_sees_its_own_databases_only(service):
    for user, there, refused in (("optuna", "optuna", "mlflow"), ("mlflow", "mlflow_auth", "optuna")):
        env = os.environ | service.env | {"PGPASSWORD": service.secrets[f"{user}_password"]}
        argv = ["psql", "-At", "-U", user, "-c", "SELECT 1", "-d"]
        asked = [
            subprocess.run([*argv, name], env=env, capture_output=True, text=True)
            for name in (there, refused)
        ]
        assert asked[0].stdout == "1\n" and "permission denied" in asked[1].stderr


def test_a_port_in_use_names_the_variable_to_change(service):
    for script, variable in (
        ("start-mlflow.sh", "MLFLOW_PORT"),
        ("start-ray-head.sh", "RAY_PORT"),
    ):
        out = run([str(DOCKER / script)], expect=2, env=service.env)
        assert out.count("\n") == 1 and f"Set another {variable}" in out and service.env[variable] in out
