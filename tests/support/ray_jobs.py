"""The dashboard of a Ray cluster to which studies were sent, as far as `JobSubmissionClient` asks it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.file_server import serve, whole
from tuner.jobs import client as job_client

VERSION = {"version": "4", "ray_version": "2.50.0", "ray_commit": "c"}


def job(
    study: str, status: str, *, id: str | None = None, runs_dir: str | Path = "/elsewhere", **known: Any
) -> dict[str, Any]:
    """Returns what the dashboard says of a job that runs a study; `id` is the study's name unless given."""
    metadata = {job_client.STUDY: study, job_client.RUNS_DIR: str(runs_dir)}
    described = {"type": "SUBMISSION", "submission_id": id or study, "entrypoint": "e", "status": status}
    return described | {"metadata": metadata} | known


@contextmanager
def dashboard(jobs: list[dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Serves jobs; gives the dashboard's address, and the list of paths asked for so far."""
    answers = {"/api/version": VERSION, "/api/jobs/": jobs}
    answers |= {f"/api/jobs/{one['submission_id']}": one for one in jobs}
    with serve({path: whole(json.dumps(answer).encode()) for path, answer in answers.items()}) as served:
        yield served
