"""The pages of a study on an MLflow server. Reads only; imports mlflow when used."""

from collections.abc import Mapping
from typing import Any

from tinytl.errors import ConfigError
from tuner.addresses import is_server
from tuner.record import schema
from tuner.tracking.client import answering, open_mlflow
from tuner.tracking.lookup import experiment_name, find_runs


def run_links(uri: str, study: str, identity: Mapping[str, Any]) -> dict[str, str]:
    """Returns the page of each trial's run by the trial's name; none if `uri` is a database.

    `identity`: the study's user attributes.

    Raises:
        ConfigError: if the server does not answer.
    """
    if not is_server(uri) or schema.DATASET not in identity:
        return {}
    client = open_mlflow(uri)
    scheme, _, place = uri.rstrip("/").partition("://")
    pages = f"{scheme}://{place.rpartition('@')[2]}/#"  # without user and password
    with answering(uri):
        experiment = client.get_experiment_by_name(experiment_name(identity))
        if experiment is None:
            return {}
        pages += f"/experiments/{experiment.experiment_id}/runs"
        runs = find_runs(client, experiment.experiment_id, study, identity.get(schema.STUDY_ID), "trial")
    return {run.data.tags["trial"]: f"{pages}/{run.info.run_id}" for run in runs}


def links_or_reason(uri: str, study: str, identity: Mapping[str, Any]) -> tuple[dict[str, str], str | None]:
    """Returns `run_links`, and the reason if the server does not answer."""
    try:
        return run_links(uri, study, identity), None
    except ConfigError as error:
        return {}, str(error)
