"""The jobs of a Ray cluster, over the address of its dashboard. Imports ray when asked."""

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tinytl.errors import ConfigError
from tuner.addresses import place_of
from tuner.study.server_checks import HTTP_PORTS, check_answers

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

STUDY, RUNS_DIR = "study", "runs_dir"
"""In a job's metadata: the study that it runs, and its folder on the cluster."""
ALIVE = ("PENDING", "RUNNING")
AWAY_S = 60.0
"""How long to wait for a dashboard that no longer answers."""
PAUSE_S = 1.0
OF_RAY = ("Running entrypoint for job ", " job_manager.py:")
"""In lines that Ray itself writes to a job's log."""


def connect(flag: str, address: str) -> "JobSubmissionClient":
    """Returns a client for the jobs of the cluster that has its dashboard at `address`.

    Raises:
        ConfigError: if none answers, or it wants another token.
    """
    scheme, host, port = place_of(flag, address)
    if scheme not in HTTP_PORTS or not host:
        raise ConfigError(f"{flag} {address}: write the dashboard's address, such as http://127.0.0.1:8265")
    check_answers(f"{flag} {address}: no Ray dashboard", host, port or HTTP_PORTS[scheme])
    from ray._private.authentication import authentication_token_setup as setup
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for name in ("", ".dashboard.modules.dashboard_sdk", ".dashboard.modules.job.sdk"):
        logging.getLogger(f"ray{name}").setLevel(logging.CRITICAL)
    setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    try:
        return JobSubmissionClient(address)
    except AuthenticationError:
        raise ConfigError(
            f"{flag} {address}: the cluster wants its token: set RAY_AUTH_TOKEN, or copy ~/.ray/auth_token "
            "from its head"
        ) from None
    # OSError and RuntimeError of Ray's own; ValueError, KeyError and more of a page that is not Ray's.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{flag} {address}: no Ray dashboard answers there ({reason})") from None


def jobs_of_studies(client: "JobSubmissionClient") -> "list[JobDetails]":
    """Returns the jobs that run or ran studies, the newest first."""
    jobs = [job for job in client.list_jobs() if STUDY in (job.metadata or {}) and job.submission_id]
    return sorted(jobs, key=lambda job: -(job.start_time or 0))


def newest_job(client: "JobSubmissionClient", study: str) -> "JobDetails":
    """Returns the last job that was sent for a study.

    Raises:
        ConfigError: if there is none, naming those that exist.
    """
    jobs = jobs_of_studies(client)
    for job in jobs:
        if job.metadata[STUDY] == study:
            return job
    there = ", ".join(dict.fromkeys(job.metadata[STUDY] for job in jobs))
    raise ConfigError(f"no job of a study {study}: there are {there or 'none'}")


def follow(client: "JobSubmissionClient", job_id: str) -> int:
    """Prints a job's log from its start until the job ends; returns the job's exit code.

    Raises:
        ConfigError: if the dashboard stops answering, and does not answer again within a minute.
        KeyboardInterrupt: on Ctrl-C; the job continues.
    """
    log = _Log(client, job_id)
    while True:
        with suppress(*_away()):  # the next call waits for the dashboard
            asyncio.run(log.print_new())
        job = details(client, job_id)
        if job.status not in ALIVE:
            return exit_code(job)
        time.sleep(PAUSE_S)


def details(client: "JobSubmissionClient", job_id: str) -> "JobDetails":
    """Returns what Ray knows of a job; waits for a dashboard that no longer answers.

    Raises:
        ConfigError: if it does not answer within a minute.
    """
    away, deadline = _away(), time.monotonic() + AWAY_S
    while True:
        try:
            return client.get_job_info(job_id)
        except away as error:
            if time.monotonic() >= deadline:
                # A RuntimeError is Ray's own answer; the text of a connection's error is noise.
                reason = f" ({str(error).splitlines()[0]})" if isinstance(error, RuntimeError) else ""
                raise ConfigError(
                    f"{client.get_address()}: the dashboard has not answered about job {job_id} for "
                    f"{AWAY_S:.0f} s{reason}"
                ) from None
        time.sleep(PAUSE_S)


def exit_code(job: Any) -> int:
    """Returns what the job's own process returned, 130 if Ray stopped it, 1 if it never ran."""
    if job.driver_exit_code is not None:
        return int(job.driver_exit_code)
    return {"SUCCEEDED": 0, "STOPPED": 130}.get(job.status, 1)


def _away() -> tuple[type[Exception], ...]:
    """Returns what calls raise if the dashboard does not answer, or not as it should."""
    import aiohttp
    import requests
    from ray.exceptions import AuthenticationError

    # Not every OSError: a closed pipe on standard output is one, too.
    return RuntimeError, TimeoutError, aiohttp.ClientError, requests.RequestException, AuthenticationError


class _Log:
    """A job's log: each part is printed once, however often the connection breaks."""

    def __init__(self, client: "JobSubmissionClient", job_id: str) -> None:
        self._client, self._job_id = client, job_id
        self._seen = 0
        """Characters that were printed."""

    async def print_new(self) -> None:
        """Prints what was not printed yet, as it comes, until the job or the connection ends."""
        length = 0
        async for chunk in self._client.tail_job_logs(self._job_id):
            new = chunk[max(0, self._seen - length) :]
            length += len(chunk)
            self._seen = max(self._seen, length)
            text = "".join(line for line in new.splitlines(True) if not any(part in line for part in OF_RAY))
            print(text, end="", flush=True)
