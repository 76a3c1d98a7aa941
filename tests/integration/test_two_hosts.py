"""A cluster of two hosts with addresses of their own: a link that is cut, a host that is lost.

Each host is a network namespace with a cable to a switch, which is a third one. They share the file system.
"""

import os
import re
import signal
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.places import ROOT
from tests.support.studies import (
    TIMEOUT_S,
    check_whole,
    command,
    processes_under,
    run,
    started,
    status_of,
    wait_for,
    write_pictures,
)

pytestmark = pytest.mark.slow
DOCKER = ROOT / "docker"
SWITCH, HEAD, WORKER = (f"tinytl-{name}-{os.getpid()}" for name in ("switch", "head", "worker"))
"""The namespaces."""
ADDRESS = {HEAD: "10.87.0.1", WORKER: "10.87.0.2"}
CABLE = {HEAD: "to-head", WORKER: "to-worker"}
"""Where a host is plugged in at the switch."""
AT = f"{ADDRESS[HEAD]}:6379"
CUT_S = 30
TRIALS, EPOCHS = 4, 30
"""Long trials: the worker's process is to be up before the head has trained them all."""


def ip(*args: str) -> str:
    return subprocess.run(["ip", *args], check=True, timeout=60, stdout=subprocess.PIPE, text=True).stdout


def on(host: str, *argv: str) -> list[str]:
    return ["ip", "netns", "exec", host, *argv]


def processes_on(host: str) -> list[int]:
    return [int(pid) for pid in ip("netns", "pids", host).split()]


def end_processes(host: str) -> None:
    """Ends a host as a power cut does, as far as processes go."""
    while pids := processes_on(host):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def cut_worker_off() -> None:
    ip("-n", SWITCH, "link", "set", CABLE[WORKER], "down")


def heal() -> None:
    ip("-n", SWITCH, "link", "set", CABLE[WORKER], "up")


@contextmanager
def network() -> Iterator[None]:
    ip("netns", "add", SWITCH)
    made = [SWITCH]
    try:
        ip("-n", SWITCH, "link", "add", "bridge", "type", "bridge")
        ip("-n", SWITCH, "link", "set", "bridge", "up")
        for host, address in ADDRESS.items():
            ip("netns", "add", host)
            made.append(host)
            cable = ["link", "add", CABLE[host], "type", "veth", "peer", "name", "eth0", "netns", host]
            ip("-n", SWITCH, *cable)
            ip("-n", SWITCH, "link", "set", CABLE[host], "master", "bridge", "up")
            ip("-n", host, "address", "add", f"{address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", host, "link", "set", device, "up")
        yield
    finally:
        for name in made:  # a namespace takes its links with it
            end_processes(name)
            ip("netns", "del", name)


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """A head that trains too, one trial at a time, and whatever workers a test starts."""

    env: dict[str, str]
    folder: Path
    stack: ExitStack

    def start(self, host: str, script: str, **more: str) -> subprocess.Popen:
        log = self.folder / f"{script}.log"
        # A short name, because Ray's sockets lie in there. Each node needs a folder of its own.
        own = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True))
        flags = ["--temp-dir", own, "--object-store-memory", str(100 * 2**20)]
        argv = on(host, str(DOCKER / script), *flags)
        node = self.stack.enter_context(started(argv, log, self.env | more))
        wait_for(lambda: node.poll() is not None or "Ray runtime started" in log.read_text(), script)
        assert node.poll() is None, log.read_text()
        raylet = next(line for line in processes_under(node.pid).values() if "/raylet/raylet " in line)
        assert f"--node_ip_address={ADDRESS[host]} " in raylet
        return node


@pytest.fixture(scope="module")
def nodes(tmp_path_factory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("nodes")
    with network(), ExitStack() as stack:
        env = {"SECRETS_DIR": str(folder / "secrets"), "RAY_NUM_CPUS": "1", "RAY_HEAD": AT}
        run([str(DOCKER / "make-secrets.sh")], env=env)
        found = Nodes(env=env, folder=folder, stack=stack)
        found.start(HEAD, "start-ray-head.sh", RAY_NODE_IP=ADDRESS[HEAD])
        yield found


@pytest.fixture
def worker(nodes) -> Iterator[subprocess.Popen]:
    """Ray finds out the worker's address itself: the one from which the head is reached."""
    node = nodes.start(WORKER, "start-ray-worker.sh")
    yield node
    heal()
    node.terminate()  # it takes its leave of the head, so that the next study does not ask it
    node.wait(TIMEOUT_S)
    end_processes(WORKER)


class Study:
    """A study whose driver runs on the head."""

    def __init__(self, folder: Path, driver: subprocess.Popen) -> None:
        self.runs_dir, self.log, self.driver = folder / "runs", folder / "log", driver
        self.hosts: dict[str, list[str]] = defaultdict(list)
        """Where each trial was seen in an epoch, in that order."""

    def look(self) -> dict[str, str]:
        """Returns the trials that are in an epoch on the worker, and notes the host of each."""
        now = {}
        for host in ADDRESS:
            for pid in processes_on(host):
                with suppress(OSError):
                    line = Path(f"/proc/{pid}/cmdline").read_text()
                    if (trial := re.match(r"ray::(update_method-\d{3})\b", line)) is not None:
                        now[trial[1]] = host
        for trial, host in now.items():
            if self.hosts[trial][-1:] != [host]:
                self.hosts[trial].append(host)
        return now

    def epochs(self, trial: str) -> int:
        metrics = self.runs_dir / "k" / trial / "metrics.jsonl"
        return len(metrics.read_text().splitlines()) if metrics.is_file() else 0

    def one_on_worker(self) -> str:
        """Waits until a trial has saved epochs on the worker and goes on there; returns its name."""

        def found() -> str | None:
            assert self.driver.poll() is None, self.log.read_text()
            now = self.look().items()
            return next((trial for trial, host in now if host == WORKER and self.epochs(trial) >= 2), None)

        return wait_for(found, "a trial on the worker")

    def end(self) -> None:
        """Waits for the study's end; checks that each trial is complete, and counted once."""
        deadline = time.monotonic() + 2 * TIMEOUT_S
        while self.driver.poll() is None:
            assert time.monotonic() < deadline, self.log.read_text()
            self.look()
            time.sleep(0.1)
        out = self.log.read_text()
        assert self.driver.returncode == 0 and f"{TRIALS} complete (of {TRIALS} requested)" in out, out
        assert "Traceback" not in out
        counts = status_of("k", self.runs_dir)["trials"]
        assert counts == {"complete": TRIALS, "pruned": 0, "failed": 0, "infeasible": 0, "running": 0}
        check_whole("k", self.runs_dir, trials=TRIALS, epochs=EPOCHS)


@pytest.fixture
def study(nodes, worker, tmp_path) -> Iterator[Study]:
    # Not one failure is allowed: what happens to a host is not a trial's fault.
    flags = ["--space", "update_method", "--name", "k", "--trials", str(TRIALS), "--epochs", str(EPOCHS)]
    flags += ["--address", AT, "--max-failures", "0"]
    argv = command(write_pictures(tmp_path / "pictures"), tmp_path / "runs", *flags)
    with started(on(HEAD, str(DOCKER / "with-secrets.sh"), *argv), tmp_path / "log", nodes.env) as driver:
        yield Study(tmp_path, driver)


def test_trials_run_on_both_hosts(study):
    study.one_on_worker()
    study.end()
    assert {host for hosts in study.hosts.values() for host in hosts} == {HEAD, WORKER}
    assert all(len(hosts) == 1 for hosts in study.hosts.values())


def test_a_link_that_is_cut_for_half_a_minute_costs_nothing(study, worker):
    trial = study.one_on_worker()
    cut_worker_off()
    time.sleep(CUT_S)
    saved = study.epochs(trial)
    assert saved < EPOCHS and study.driver.poll() is None
    heal()
    study.end()
    assert study.hosts[trial] == [WORKER] and worker.poll() is None


def test_the_trial_of_a_host_that_is_lost_goes_on_elsewhere_from_its_last_epoch(study):
    trial = study.one_on_worker()
    end_processes(WORKER)
    metrics = study.runs_dir / "k" / trial / "metrics.jsonl"
    before = metrics.read_text()
    study.end()
    assert study.hosts[trial] == [WORKER, HEAD]
    assert 2 <= len(before.splitlines()) < EPOCHS and metrics.read_text().startswith(before)


def test_the_trial_of_a_host_that_cannot_be_reached_any_more_goes_on_elsewhere(study):
    """The host runs: its process keeps the trial's folder for minutes, until Ray there ends it."""
    trial = study.one_on_worker()
    cut_worker_off()
    study.end()
    assert study.hosts[trial] == [WORKER, HEAD]
