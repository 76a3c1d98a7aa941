"""Stopping a study gently: running epochs end and are saved, as on Ctrl-C; `--resume` goes on from there."""

import os
import shlex
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from tinytl.errors import ConfigError
from tuner import job_client
from tuner.claim import holder_of

POLL_S = 0.5
SAVING = "study {}: running trials end their epoch and are saved ..."


def stop_here(name: str, runs_dir: str, tell: Callable[[str], None]) -> None:
    """Asks the driver that runs a study on this machine to stop, and waits for its end.

    Raises:
        ConfigError: where none runs it, or one on another machine does.
    """
    folder = Path(runs_dir) / name
    holder = holder_of(folder, {})
    if holder is None:
        raise ConfigError(f"study {name} does not run (by the lock in {folder})")
    if holder.get("host") != socket.gethostname():
        raise ConfigError(
            f"study {name} runs on {holder.get('host')} as process {holder.get('pid')}: stop it there; a job "
            "of a Ray cluster: give --address URL"
        )
    os.kill(int(holder["pid"]), signal.SIGTERM)
    tell(SAVING.format(name))
    while holder_of(folder, {}) == holder:
        time.sleep(POLL_S)


def stop_job(name: str, address: str, tell: Callable[[str], None]) -> str:
    """Has the cluster's head stop the driver of a study that was sent as a job, and waits for its end.

    Ray's own stop kills a job after three seconds, which may be in the middle of an epoch. Returns the runs'
    folder on the cluster.

    Raises:
        ConfigError: where no such job runs.
    """
    client = job_client.connect("--address", address)
    job = job_client.newest_job(client, name)
    assert job.submission_id is not None and job.metadata is not None
    if job.status not in job_client.ALIVE:
        raise ConfigError(f"study {name} does not run: its job {job.submission_id} has ended ({job.status})")
    runs_dir = job.metadata[job_client.RUNS_DIR]
    if job.status == "PENDING":
        client.stop_job(job.submission_id)
    else:
        working_dir = (job.runtime_env or {}).get("working_dir")
        stopping = client.submit_job(
            entrypoint=shlex.join(["exec", "python", "-m", "tuner", "stop", name, "--runs-dir", runs_dir]),
            runtime_env={"working_dir": working_dir},  # it lies on the cluster already
            entrypoint_num_cpus=0,
        )
        tell(SAVING.format(name))
        while client.get_job_info(stopping).status in job_client.ALIVE:
            time.sleep(POLL_S)
        if job_client.exit_code(client.get_job_info(stopping)):
            said = client.get_job_logs(stopping).strip().splitlines()[-1]
            raise ConfigError(f"job {job.submission_id} of study {name} was not stopped ({said})")
    while client.get_job_info(job.submission_id).status in job_client.ALIVE:
        time.sleep(POLL_S)
    return runs_dir
