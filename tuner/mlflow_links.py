"""Where a study is seen in MLflow: pages of a server, or commands. Reads only; imports mlflow when used."""

import shlex
from collections.abc import Mapping
from typing import Any

from tinytl.errors import ConfigError
from tuner.mlflow_client import answering, open_mlflow
from tuner.mlflow_search import STUDY_ID, experiment_name, find_runs
from tuner.passwords import without_password


def is_server(uri: str) -> bool:
    """Whether there are pages at `uri`: else it is a database."""
    return uri.startswith(("http://", "https://"))


def ui_command(uri: str | None, where: str) -> str:
    """Returns the command that serves a database; None: that of RUNS_DIR, which `where` names in a flag."""
    flag = "" if uri is None else f" --tracking-uri {shlex.quote(without_password(uri))}"
    return f"python -m tuner ui{where}{flag}"


def sync_command(study: str, where: str, uri: str | None = None) -> str:
    """Returns the command that brings a study to `uri`, or to where it was tracked."""
    flag = "" if uri is None else f" --tracking-uri {shlex.quote(without_password(uri))}"
    return f"python -m tuner sync {study}{where}{flag}"


def run_links(uri: str, study: str, identity: Mapping[str, Any]) -> dict[str, str]:
    """Returns the page of each trial's run by the trial's name; none where `uri` is a database.

    `identity`: the study's user attributes.

    Raises:
        ConfigError: where the server does not answer.
    """
    if not is_server(uri) or "dataset" not in identity:
        return {}
    client = open_mlflow(uri)
    scheme, _, place = uri.rstrip("/").partition("://")
    pages = f"{scheme}://{place.rpartition('@')[2]}/#"  # without user and password
    with answering(uri):
        experiment = client.get_experiment_by_name(experiment_name(identity))
        if experiment is None:
            return {}
        pages += f"/experiments/{experiment.experiment_id}/runs"
        runs = find_runs(client, experiment.experiment_id, study, identity.get(STUDY_ID), "trial")
    return {run.data.tags["trial"]: f"{pages}/{run.info.run_id}" for run in runs}


def links_or_reason(uri: str, study: str, identity: Mapping[str, Any]) -> tuple[dict[str, str], str | None]:
    """Returns `run_links`, and why there are none where the server does not answer."""
    try:
        return run_links(uri, study, identity), None
    except ConfigError as error:
        return {}, str(error)
