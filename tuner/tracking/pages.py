"""Where MLflow shows a study: the address that opens its runs in a fresh browser. Only reads."""

from collections.abc import Mapping

from tinytl.passwords import without_password
from tuner.tracking.client import answering, open_mlflow
from tuner.tracking.view import TAG_PREFIX, runs_path, view_path

MOST = 1000
"""Runs that MLflow returns at once."""


def study_pages(uri: str, name: str | None = None) -> list[tuple[str, str]]:
    """Returns the studies that MLflow has, newest first, each with its address relative to the server.

    `name`: only studies of that name; there may be one in each experiment.

    Raises:
        ConfigError: if MLflow does not answer.
    """
    client = open_mlflow(uri)
    wanted = "tags.kind = 'study'" + ("" if name is None else f" and tags.study = '{name}'")
    with answering(uri):
        experiments = {found.experiment_id: found for found in client.search_experiments()}
        newest = ["attributes.start_time DESC"]
        runs = client.search_runs(list(experiments), wanted, max_results=MOST, order_by=newest)
    return [
        (study, landing_path(study, run.info.experiment_id, experiments[run.info.experiment_id].tags))
        for run in runs
        if (study := run.data.tags["study"])
    ]


def landing_path(study: str, experiment_id: str, tags: Mapping[str, str]) -> str:
    """Returns the address of a study's runs: its own view, which is made at its end, or else a filter.

    `tags`: of the experiment.
    """
    if TAG_PREFIX + study in tags:
        return view_path(study, experiment_id)
    return runs_path(study, experiment_id)


def page_on(server: str, path: str | None) -> str:
    """Returns the whole address of a page, or the server's if there is none, without a password."""
    address = without_password(server)
    return address if path is None else f"{address.rstrip('/')}/{path}"
