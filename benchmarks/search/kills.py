"""Does a study survive `kill -9` ten times over: driver, a trial's process, or a Ray node, at random moments?

One study on small pictures made here, on a cluster of two nodes on this machine. After each kill of the
driver `--resume` continues; a killed node is started again. At the end: exactly N trials ended, none is in
Optuna or MLflow twice or still RUNNING, and none over the budget was started. The record of each trial that
had ended before a kill (in Optuna, and the bytes of its metrics.jsonl) is unchanged.

    python -m benchmarks.search.kills --json benchmarks/results/search_kills_MACHINE_YYYYMM.json
"""

import argparse
import hashlib
import json
import os
import random
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState
from PIL import Image

from benchmarks.shared.machine import write_result
from benchmarks.shared.places import ROOT
from benchmarks.shared.process_tree import command_line, descendants
from tuner.record.reading import read_study
from tuner.record.storage import load_study
from tuner.record.trials import state_of

NAME = "killed"
BUDGET_MIB = 40.0
TARGETS = (
    "driver",
    "driver",
    "driver",
    "starting driver",
    "worker",
    "worker",
    "worker",
    "node",
    "node",
    "node",
)
LONGEST_WAIT_S = 8.0
"""A kill comes at a random moment within this many seconds after trials are seen to be at work."""
LONGEST_START_S = 12.0
TIMEOUT_S = 900
START_TRIES = 4
STARTED = "Ray runtime started."
"""What `ray start` prints once its node is up."""


def write_pictures(folder: Path, per_class: int) -> None:
    """Writes noise with a tint: red, green and blue."""
    rng = np.random.default_rng(0)
    for split, count in (("train", per_class), ("val", 6)):
        for channel, name in enumerate(("red", "green", "blue")):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                noise = rng.integers(0, 120, (40, 40, 3)).astype(np.uint8)
                noise[..., channel] += 100
                Image.fromarray(noise).save(folder / split / name / f"{index}.png")


class Cluster:
    """A head and one more node, each a `ray start` of this process."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        # A token of its own: `ray start` needs one.
        self.environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.log = (folder / "ray.log").open("w")
        port = self.address.rpartition(":")[2]
        head = ["--head", "--port", port, "--include-dashboard", "false"]
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            self.head = self._start(*head, "--temp-dir", str(folder / "ray"))
            self.start_node()
        except BaseException:
            self.stop()
            raise

    def start_node(self) -> None:
        """Starts the second node."""
        self.node = self._start("--address", self.address)

    def kill_node(self) -> int:
        """Kills the second node's raylet, and everything that runs there with it; returns its process."""
        raylet = self._raylet(self.node)
        assert raylet is not None
        os.kill(raylet, signal.SIGKILL)
        self.node.wait(60)
        return raylet

    def workers(self) -> list[int]:
        """Returns the processes of trials: workers that are neither idle nor still starting."""
        every = descendants(self.head.pid) + descendants(self.node.pid)
        titles = {process: " ".join(command_line(process)[:1]) for process in every}
        return [
            p for p, t in titles.items() if t.startswith("ray::") and "IDLE" not in t and "Agent" not in t
        ]

    def stop(self) -> None:
        """Ends both nodes."""
        for process in reversed(self._processes):
            below = descendants(process.pid)
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for own in below:
                if command_line(own) and "ray" in " ".join(command_line(own)):
                    os.kill(own, signal.SIGKILL)
        self.log.close()

    def _start(self, *flags: str) -> "subprocess.Popen[bytes]":
        ray = Path(sys.executable).with_name("ray")
        command = [str(ray), "start", *flags, "--num-cpus", "1", "--disable-usage-stats", "--block"]
        up = self._count(STARTED) + 1
        for _ in range(START_TRIES):  # Ray's limit for a node is thirty seconds, too few on a busy machine
            process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=self.environment)
            self._processes.append(process)
            _wait(lambda p=process, n=up: p.poll() is not None or self._count(STARTED) >= n, "a Ray node")  # type: ignore[misc]
            if process.poll() is None:
                return process
        raise RuntimeError(f"Ray does not start: {Path(self.log.name).read_text()[-2000:]}")

    def _count(self, text: str) -> int:
        return Path(self.log.name).read_text().count(text)

    def _raylet(self, node: "subprocess.Popen[bytes]") -> int | None:
        found = [p for p in descendants(node.pid) if command_line(p)[:1] and "raylet" in command_line(p)[0]]
        return found[0] if found else None


def ended_records(study: optuna.Study, folder: Path) -> dict[str, str]:
    """Returns, by name, all that is kept of each trial that ended: Optuna's record, and its metrics."""
    records = {}
    for trial in study.get_trials(deepcopy=False):
        name = trial.user_attrs.get("name")
        if name is None or state_of(trial) not in ("complete", "pruned", "failed", "infeasible"):
            continue
        metrics = folder / name / "metrics.jsonl"
        digest = hashlib.sha256(metrics.read_bytes()).hexdigest() if metrics.exists() else None
        kept = {key: value for key, value in vars(trial).items() if key not in ("_distributions",)}
        records[name] = json.dumps(kept | {"metrics.jsonl": digest}, sort_keys=True, default=str)
    return records


def final_checks(runs_dir: Path, trials: int) -> dict[str, Any]:
    """Returns what the storage and MLflow say about the study after its end."""
    study = load_study(NAME, str(runs_dir))
    found = read_study(study)
    every = study.get_trials(deepcopy=False)
    started = [t for t in every if "name" in t.user_attrs]
    counted = Counter(t.user_attrs["name"] for t in started if state_of(t) != "interrupted")
    with sqlite3.connect(runs_dir / "mlflow.db") as database:
        runs = database.execute(
            "SELECT name.value, runs.status FROM runs JOIN tags AS name ON name.run_uuid = runs.run_uuid "
            "WHERE name.key = 'trial'"
        ).fetchall()
        every_status = [status for (status,) in database.execute("SELECT status FROM runs")]
    in_mlflow = Counter(name for name, _ in runs)
    return {
        "requested": trials,
        "ended": found.ended,
        "trials": found.counts,
        "interrupted_records": sum(state_of(t) == "interrupted" for t in every),
        "doubled_in_optuna": sorted(name for name, n in counted.items() if n > 1),
        "doubled_in_mlflow": sorted(name for name, n in in_mlflow.items() if n > 1),
        "names_agree": sorted(counted) == sorted(in_mlflow),
        "running_in_optuna": sum(t.state == TrialState.RUNNING for t in every),
        "running_in_mlflow": every_status.count("RUNNING"),
        "mlflow_status": dict(Counter(status for _, status in runs)),
        "started_over_budget": sorted(
            t.user_attrs["name"] for t in started if t.user_attrs["peak_memory_mib"] > BUDGET_MIB
        ),
    }


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {TIMEOUT_S} s for {what}")
        time.sleep(0.1)


class Killing:
    """A study, and what happened to it."""

    def __init__(self, folder: Path, seed: int, trials: int, epochs: int, per_class: int) -> None:
        self.folder, self.trials = folder, trials
        self.runs_dir = folder / "runs"
        self.rng = random.Random(seed)
        write_pictures(folder / "pictures", per_class)
        self.cluster = Cluster(folder)
        self.flags = [
            "--dataset", "imagefolder", "--data-dir", str(folder / "pictures"), "--weights", "none",
            "--set", "resolution=32", "--set", "batch_size=8", "--memory-budget-mib", f"{BUDGET_MIB:g}",
            "--trials", str(trials), "--epochs", str(epochs), "--workers", "2", "--max-failures", "9",
        ]  # fmt: skip
        self.records: dict[str, str] = {}
        self.changed: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.started = time.monotonic()
        self.log = (folder / "drivers.log").open("w")
        self.driver = self.drive()

    def drive(self) -> "subprocess.Popen[bytes]":
        """Starts the study, or resumes it if it has a record."""
        known = (self.runs_dir / NAME / "study.json").exists()
        flags = ["--resume"] if known else self.flags
        command = [sys.executable, "launch.py", "--name", NAME, "--runs-dir", str(self.runs_dir), *flags]
        self.drove_at = time.time()
        command += ["--address", self.cluster.address]
        environment = self.cluster.environment
        self.driver = subprocess.Popen(command, cwd=ROOT, stdout=self.log, stderr=self.log, env=environment)
        return self.driver

    def at_work(self) -> bool:
        """Whether this driver's trials have written something, or the driver has ended."""
        files = (self.runs_dir / NAME).glob("*/**/*.pt")
        return self.driver.poll() is not None or any(_written_at(f) > self.drove_at for f in files)

    def compare(self) -> dict[str, int]:
        """Reads the records of ended trials, notes which changed, and returns the counts of states."""
        if not (self.runs_dir / "optuna.journal").exists():
            return {}
        study = load_study(NAME, str(self.runs_dir))
        now = ended_records(study, self.runs_dir / NAME)
        self.changed += [name for name, was in self.records.items() if now.get(name) != was]
        self.records |= now
        return dict(Counter(state_of(trial) for trial in study.get_trials(deepcopy=False)))

    def kill(self, target: str) -> None:
        """Kills one target at a random moment, and restarts what does not restart by itself."""
        if target == "starting driver":
            moment = "starting"
            time.sleep(self.rng.uniform(0, LONGEST_START_S))
        else:
            moment = "at work"
            _wait(self.at_work, "a trial at work")
            time.sleep(self.rng.uniform(0, LONGEST_WAIT_S))
        if self.driver.poll() is not None:
            raise RuntimeError(f"the study ended before it was killed ten times: {self.events}")
        if target == "worker":
            _wait(lambda: bool(self.cluster.workers()) or self.driver.poll() is not None, "a worker")
            process = self.rng.choice(sorted(self.cluster.workers()))
            os.kill(process, signal.SIGKILL)
        elif target == "node":
            process = self.cluster.kill_node()
        else:
            process = self.driver.pid
            self.driver.kill()
            self.driver.wait()
        counts = self.compare()
        self.events.append(
            {
                "at_s": round(time.monotonic() - self.started, 1),
                "whom": target,
                "when": moment,
                "trials": counts,
            }
        )
        print(self.events[-1], f"process {process}", flush=True)
        if target == "node":
            self.cluster.start_node()
        elif target != "worker":
            self.drive()

    def finish(self) -> dict[str, Any]:
        """Waits for the study's end, resumes it if its driver gave up, and returns the checks."""
        codes = [self.driver.wait(TIMEOUT_S)]
        while codes[-1] and len(codes) < 3:
            codes.append(self.drive().wait(TIMEOUT_S))
        self.compare()
        return final_checks(self.runs_dir, self.trials) | {
            "exit_codes": codes,
            "changed_after_they_ended": sorted(set(self.changed)),
        }

    def stop(self) -> None:
        """Ends what still runs."""
        if self.driver.poll() is None:
            self.driver.kill()
            self.driver.wait()
        self.cluster.stop()
        self.log.close()


def _written_at(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def passed(checks: dict[str, Any]) -> bool:
    """Whether a killed study ended as an unharmed one would."""
    nothing = ("doubled_in_optuna", "doubled_in_mlflow", "running_in_optuna", "running_in_mlflow")
    nothing += ("started_over_budget", "changed_after_they_ended")
    exactly = checks["ended"] == checks["requested"] and checks["names_agree"]
    return exactly and not any(checks[name] for name in nothing)


def main() -> int:
    """Kills, resumes, checks; returns 1 if something was lost, repeated or left behind."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--pictures", type=int, default=60, help="training pictures in each of 3 classes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    targets = list(TARGETS)
    random.Random(args.seed).shuffle(targets)
    with tempfile.TemporaryDirectory() as temporary:
        killing = Killing(Path(temporary), args.seed, args.trials, args.epochs, args.pictures)
        try:
            for target in targets[: args.kills]:
                killing.kill(target)
            checks = killing.finish()
        except BaseException:
            print((Path(temporary) / "drivers.log").read_text()[-4000:])
            raise
        finally:
            killing.stop()
    print(json.dumps(checks, indent=1))
    print("passed" if passed(checks) else "FAILED")
    if args.json:
        figures = {
            "seed": args.seed,
            "epochs": args.epochs,
            "passed": passed(checks),
            "checks": checks,
            "kills": killing.events,
        }
        write_result(args.json, figures)
    return 0 if passed(checks) else 1


if __name__ == "__main__":
    sys.exit(main())
