"""Stopping a study gently: running epochs end and are saved, as on Ctrl-C; `--resume` continues them."""

import os
import shlex
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tinytl.errors import ConfigError
from tuner.bucket.claims import is_here
from tuner.bucket.copies import named
from tuner.jobs import client as job_client
from tuner.record.claim import holder_of

POLL_S = 0.5
SILENT_S = 15.0
"""Seconds between two lines about a wait."""
CLAIM_S = 60.0
"""How long to wait for a job's driver that still prepares its study: it locks the folder only afterwards."""
EPOCHS = "epochs under way may take long"
EPOCHS_OR_IMAGES = f"{EPOCHS}; so may images or downloads of a study that has not begun"
SAVING = "study {}: running trials end their epoch and are saved ..."


def stop_here(name: str, runs_dir: str, tell: Callable[[str], None], wait_s: float = 0.0) -> None:
    """Asks the driver that runs a study on this machine to stop, and waits for its end.

    Waits `wait_s` seconds for a driver that still prepares its study (images, downloads).

    Raises:
        ConfigError: if none runs it, or one on another machine or of another user does.
    """
    folder = Path(runs_dir) / name
    deadline = time.monotonic() + wait_s
    while not (holder := holder_of(folder, {})) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    if not holder:
        raise ConfigError(
            f"study {name} does not run (by the lock in {named(folder)}); if it is still preparing (images, "
            "downloads), try again once it trains, or stop it with Ctrl-C there"
        )
    if holder.get("host") != socket.gethostname() or ("machine" in holder and not is_here(holder)):
        raise ConfigError(
            f"study {name} runs on {holder.get('host')} as process {holder.get('pid')}: stop it there; a job "
            "of a Ray cluster: give --address URL"
        )
    try:
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(int(holder["pid"]), signal.SIGTERM)
    except PermissionError:
        raise ConfigError(
            f"study {name} is run by another user, as process {holder['pid']}: they, or root, can stop it"
        ) from None
    tell(SAVING.format(name))
    _wait(name, EPOCHS, tell, lambda: holder_of(folder, {}) == holder)


def stop_job(name: str, address: str, tell: Callable[[str], None]) -> str:
    """Makes the cluster's head stop the driver of a study that was sent as a job, and waits for its end.

    Ray's own stop kills a job after three seconds, which may be in the middle of an epoch. Returns the runs'
    folder on the cluster.

    Raises:
        ConfigError: if no such job runs, or it is not stopped.
    """
    client = job_client.connect("--address", address)
    job = job_client.newest_job(client, name)
    assert job.submission_id is not None and job.metadata is not None
    job_id, runs_dir = job.submission_id, job.metadata[job_client.RUNS_DIR]
    if job.status not in job_client.ALIVE:
        raise ConfigError(f"study {name} does not run: its job {job_id} has ended ({job.status})")

    def lives(one: str) -> bool:
        return job_client.details(client, one).status in job_client.ALIVE

    if job.status == "PENDING":
        client.stop_job(job_id)
        _wait(name, "Ray withdraws the job", tell, lambda: lives(job_id))
        return runs_dir
    stop = ["exec", "python", "-m", "tuner", "stop", name, "--runs-dir", runs_dir, "--wait", f"{CLAIM_S:g}"]
    try:
        stopping = client.submit_job(
            entrypoint=shlex.join(stop),
            runtime_env={"working_dir": (job.runtime_env or {}).get("working_dir")},  # it is there already
            entrypoint_num_cpus=0,
        )
    except RuntimeError as error:
        raise ConfigError(f"--address {address}: it accepts no job ({error})") from None
    tell(SAVING.format(name))
    _wait(name, EPOCHS_OR_IMAGES, tell, lambda: lives(job_id) and lives(stopping))
    if lives(stopping):  # the job has ended: it must not wait for the study's next driver
        client.stop_job(stopping)
    elif job_client.exit_code(job_client.details(client, stopping)) and lives(job_id):
        said = client.get_job_logs(stopping).strip().splitlines() or ["nothing in its log"]
        raise ConfigError(f"job {job_id} of study {name} was not stopped ({said[-1]})")
    _wait(name, "its job ends", tell, lambda: lives(job_id))
    return runs_dir


def _wait(name: str, what: str, tell: Callable[[str], None], goes_on: Callable[[], bool]) -> None:
    """Waits for a driver that was asked to stop; says so now and then. On Ctrl-C says what still happens."""
    began = told = time.monotonic()
    try:
        while goes_on():
            time.sleep(POLL_S)
            if time.monotonic() - told >= SILENT_S:
                told = time.monotonic()
                tell(f"study {name}: still waiting, {told - began:.0f} s by now: {what} ...")
    except KeyboardInterrupt:
        tell(f"\nNot waiting any longer: study {name} is still stopping")
        raise
