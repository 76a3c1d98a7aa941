"""Whole studies as a user starts them: a driver in a process of its own, and the files that it left."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from http.client import HTTPException
from pathlib import Path

import mlflow
import numpy as np
from mlflow.tracking import MlflowClient
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from tests.support.places import ROOT
from tuner.__main__ import main as tuner
from tuner.record.storage import load_study

CLASSES = ("red", "green", "blue")
SMALL = ["--weights", "none", "--set", "resolution=32", "--set", "batch_size=8"]
TIMEOUT_S = 400


def write_pictures(folder: Path) -> Path:
    """Three classes of noise with a tint: 12 pictures each to train on, 6 to validate, 6 to test."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 6), ("test", 6)):
        for channel, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                noise = rng.integers(0, 120, (40, 40, 3)).astype(np.uint8)
                noise[..., channel] += 100
                Image.fromarray(noise).save(folder / split / name / f"{index}.png")
    return folder


def command(pictures, runs_dir, *flags) -> list[str]:
    data = ["--dataset", "imagefolder", "--data-dir", str(pictures), "--runs-dir", str(runs_dir)]
    return [sys.executable, "launch.py", *data, *SMALL, *flags]


def resume(name, runs_dir, *flags) -> list[str]:
    return [sys.executable, "launch.py", "--name", name, "--resume", "--runs-dir", str(runs_dir), *flags]


def ended(argv, env=None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, env=os.environ | (env or {})
    )


def run(argv, expect=0, env=None) -> str:
    """Runs a command to its end; returns its output."""
    done = ended(argv, env)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def refusal(argv, env=None) -> str:
    """Runs a command that is refused: exit code 2; returns the one line of its error output."""
    done = ended(argv, env)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stdout + done.stderr
    return done.stderr


@contextmanager
def started(argv, log: Path, env=None) -> Iterator[subprocess.Popen]:
    """Starts a driver that handles signals like one at a terminal; kills it at the end if it still runs."""

    def default_signals() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell ignores it

    with log.open("w") as out:
        driver = subprocess.Popen(
            argv,
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=default_signals,
            env=os.environ | (env or {}),
        )
    try:
        yield driver
    finally:
        below = processes_under(driver.pid)
        driver.kill()
        driver.wait()
        for pid, line in below.items():  # processes that it started and cannot end any more
            with suppress(OSError):
                if Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() == line:
                    os.kill(pid, signal.SIGKILL)


def ray_start(log: Path, *flags: str):
    """Starts a node of a Ray cluster with one CPU, for the duration of the block."""
    argv = [str(Path(sys.executable).with_name("ray")), "start", *flags, "--num-cpus", "1", "--block"]
    # A head wants its token by default; a node shows one only if it is told to.
    return started([*argv, "--disable-usage-stats"], log, {"RAY_AUTH_MODE": "token"})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def doors_of(pid: int) -> tuple[list[str], list[str]]:
    """Returns where `pid` and the processes under it listen for TCP: on the loopback, and elsewhere."""
    loopback = ("0100007F:", f"{1 << 24:032X}:")  # 127.0.0.1, on its own or within IPv6, and ::1
    listening = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, address, _, state, *rest = line.split()
            if state == "0A":
                listening[f"socket:[{rest[5]}]"] = address
    doors: tuple[list[str], list[str]] = ([], [])
    for process, line in processes_under(pid).items():
        with suppress(OSError):
            for descriptor in Path(f"/proc/{process}/fd").iterdir():
                with suppress(OSError):
                    address = listening.get(str(descriptor.readlink()))
                    if address is not None:
                        doors[not any(end in address for end in loopback)].append(f"{address} {line}")
    return doors


def metrics_of(pid: int) -> dict[str, float]:
    """Returns a study's figures, by name and state, on the metrics page of the Ray that `pid` started; none
    if there is no page yet, or no longer.
    """
    session = re.search(r"--session-dir=(\S+)", " ".join(processes_under(pid).values()))
    ports = list(Path(session[1]).glob("metrics_export_port_*")) if session else []
    if not ports:
        return {}
    with suppress(OSError, ValueError, HTTPException):  # Ray begins or ends
        url = f"http://127.0.0.1:{int(ports[0].read_text())}/metrics"
        with urllib.request.urlopen(url, timeout=5) as page:
            families = text_string_to_metric_families(page.read().decode())
        return {
            " ".join([sample.name, *filter(None, [sample.labels.get("state")])]): sample.value
            for family in families
            for sample in family.samples
            if "study" in sample.labels
        }
    return {}


def raylet_of(node: subprocess.Popen) -> int | None:
    """Returns the process that is a node: the processes that it started die with it."""
    assert node.poll() is None, "the node has ended: its log says why"
    found = [
        pid for pid, line in processes_under(node.pid).items() if "/raylet " in line.split(" --")[0] + " "
    ]
    return found[0] if found else None


def status_of(name, runs_dir, *flags) -> dict:
    """Returns what `python -m tuner status` prints, without a process of its own."""
    with redirect_stdout(io.StringIO()) as out:
        assert tuner(["status", name, "--runs-dir", str(runs_dir), "--json", *flags]) == 0
    return json.loads(out.getvalue())


def mlflow_runs(name, runs_dir, kind) -> list[mlflow.entities.Run]:
    client = MlflowClient(f"sqlite:///{runs_dir}/mlflow.db")
    experiments = [e.experiment_id for e in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.study = '{name}' and tags.kind = '{kind}'"))


def wait_for(condition, what):
    deadline = time.monotonic() + TIMEOUT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)
    return found


def epochs_saved(folder: Path) -> int:
    """Returns the epochs that the trials of a study have saved so far."""
    return sum(len(file.read_text().splitlines()) for file in folder.glob("*/metrics.jsonl"))


def processes_under(pid: int) -> dict[int, str]:
    """Returns the command line of each process that `pid` started, directly or indirectly."""
    parents, lines = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                lines[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                parents[int(entry.name)] = parent  # not of a process that ended between the two
            except (OSError, ValueError):
                continue
    found: dict[int, str] = {}
    new = {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found.keys()
        found |= {child: lines[child] for child in new}
    return found


def records_of(name, runs_dir) -> dict[str, str]:
    """Returns each ended trial's files as text: record, metrics, the size of its checkpoint."""
    kept = {}
    for trial in load_study(name, str(runs_dir)).get_trials(deepcopy=False):
        if trial.state.is_finished() and "name" in trial.user_attrs and "interrupted" not in trial.user_attrs:
            folder = runs_dir / name / trial.user_attrs["name"]
            text = (
                f"{trial}\n{(folder / 'metrics.jsonl').read_text()}\n{(folder / 'config.yaml').read_text()}"
            )
            kept[trial.user_attrs["name"]] = f"{text}\n{(folder / 'last.pt').stat().st_size}"
    return kept


def workers_of(driver: subprocess.Popen) -> list[int]:
    """Returns the processes that train a driver's trials: one has its trial's name during an epoch."""
    trains = re.compile(r"ray::(TinyTL|\w+-\d{3}\b)")
    return [pid for pid, line in processes_under(driver.pid).items() if trains.match(line)]


def check_whole(name, runs_dir, trials: int, epochs: int, space="update_method") -> None:
    """Checks that a study has exactly its trials, each epoch once, and that MLflow has the same."""
    names = [f"{space}-{index:03d}" for index in range(trials)]
    counts = status_of(name, runs_dir)["trials"]
    assert counts["complete"] + counts["pruned"] + counts["failed"] == len(names)
    assert counts["running"] == 0
    runs = {run.data.tags["trial"]: run for run in mlflow_runs(name, runs_dir, "trial")}
    assert sorted(runs) == names and len(mlflow_runs(name, runs_dir, "trial")) == len(names)
    assert {run.info.status for run in runs.values()} <= {"FINISHED", "FAILED"}
    assert len(mlflow_runs(name, runs_dir, "study")) == 1
    for trial in names:
        rows = [
            json.loads(line) for line in (runs_dir / name / trial / "metrics.jsonl").read_text().splitlines()
        ]
        assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
        if runs[trial].data.tags["state"] == "complete":
            assert len(rows) == epochs
            history = MlflowClient(f"sqlite:///{runs_dir}/mlflow.db").get_metric_history(
                runs[trial].info.run_id, "accuracy_top1"
            )
            assert [point.step for point in history] == [row["epoch"] for row in rows]
            assert [point.value for point in history] == [row["accuracy_top1"] for row in rows]
