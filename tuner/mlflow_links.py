"""Where a study is seen in MLflow: pages of a server, or commands. Reads only; imports mlflow when used."""

import shlex

from tinytl.errors import ConfigError
from tuner.mlflow_client import answering, open_mlflow
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


def run_links(uri: str, study: str) -> dict[str, str]:
    """Returns the page of each trial's run by the trial's name; none where `uri` is a database.

    Raises:
        ConfigError: where the server does not answer.
    """
    if not is_server(uri):
        return {}
    client = open_mlflow(uri)
    scheme, _, place = uri.rstrip("/").partition("://")
    pages = f"{scheme}://{place.rpartition('@')[2]}/#"  # without user and password
    links = {}
    with answering(uri):
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        token = None
        while True:
            found = client.search_runs(
                experiments,
                f"tags.study = '{study}' and tags.kind = 'trial'",
                max_results=1000,
                page_token=token,
            )
            for run in found:
                place = f"experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
                links[run.data.tags["trial"]] = f"{pages}/{place}"
            token = found.token
            if not token:
                return links


def links_or_reason(uri: str, study: str) -> tuple[dict[str, str], str | None]:
    """Returns `run_links`, and why there are none where the server does not answer."""
    try:
        return run_links(uri, study), None
    except ConfigError as error:
        return {}, str(error)
