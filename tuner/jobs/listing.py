"""The studies of a Ray cluster that were sent as jobs: which run, since when, how far they are."""

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from tinytl.errors import ConfigError
from tuner.jobs import client as job_client
from tuner.next_commands import launch_command
from tuner.record.reading import open_study

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

STATES = {0: "done", 2: "refused", 130: "stopped"}
"""What an ended study is called, by its exit code; with any other code it has failed."""


def print_jobs(console: Console, address: str) -> None:
    """Prints a table of the studies that were sent to a cluster, the newest first."""
    jobs = job_client.jobs_of_studies(job_client.connect("--address", address))
    if not jobs:
        console.print(
            f"No study was sent to {address} yet ({launch_command('--submit', address)} ...)", soft_wrap=True
        )
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("study", "state", "since", "trials"):
        table.add_column(column, no_wrap=True)
    table.add_column("message", overflow="fold")
    for job in jobs:
        assert job.metadata is not None
        changed_ms = job.end_time or job.start_time
        since = f"{datetime.fromtimestamp(changed_ms / 1000):%Y-%m-%d %H:%M}" if changed_ms else ""
        state = _state(job)
        # While a study runs, Ray's message adds nothing to the other columns.
        message = " ".join((job.message or "").split()) if state in ("waiting", "failed", "refused") else ""
        table.add_row(job.metadata[job_client.STUDY], state, since, _trials(job), message)
    console.print(table)


def _state(job: "JobDetails") -> str:
    if job.status in job_client.ALIVE:
        return {"PENDING": "waiting", "RUNNING": "running"}[job.status]
    return STATES.get(job_client.exit_code(job), "failed")


def _trials(job: "JobDetails") -> str:
    """Returns `ended/requested` if the study's folder can be seen from here, else nothing."""
    assert job.metadata is not None
    name, runs_dir = job.metadata[job_client.STUDY], job.metadata[job_client.RUNS_DIR]
    with suppress(ConfigError, OSError):
        study = open_study(name, runs_dir)
        return f"{study.ended}/{study.requested}"
    return ""
