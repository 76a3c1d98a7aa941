"""A study's runs in MLflow, found by the study's id: an older study may have had its name. Only reads."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tinytl.errors import ConfigError
from tuner.record import schema

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

_NO_REGISTRY = ("FEATURE_DISABLED", "ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED")
"""Error codes of a server without a registry of models."""


def experiment_name(identity: Mapping[str, Any]) -> str:
    """Returns the experiment of the study with these user attributes."""
    return str(identity.get(schema.EXPERIMENT) or identity[schema.DATASET])


def find_runs(
    client: "MlflowClient", experiment_id: str, name: str, study_id: str | None, kind: str
) -> "list[Run]":
    """Returns a study's runs of one kind, oldest first; without an id, runs of its name without one."""
    if study_id is not None:
        return _search(
            client, experiment_id, f"tags.{schema.STUDY_ID} = '{study_id}' and tags.kind = '{kind}'"
        )
    found = _search(client, experiment_id, f"tags.study = '{name}' and tags.kind = '{kind}'")
    return [run for run in found if schema.STUDY_ID not in run.data.tags]


def refuse_taken_name(client: "MlflowClient", experiment: str, name: str) -> None:
    """Raises ConfigError if the experiment already has a study with the name of a new one."""
    found = client.get_experiment_by_name(experiment)
    if found is not None and is_taken(client, found.experiment_id, name):
        raise ConfigError(
            f"--name {name}: MLflow's experiment {experiment} has a study of that name: "
            "change --name or --experiment"
        )


def is_taken(client: "MlflowClient", experiment_id: str, name: str) -> bool:
    """Whether the experiment has any study of that name."""
    return bool(_search(client, experiment_id, f"tags.study = '{name}' and tags.kind = 'study'"))


def registered_versions(client: "MlflowClient", run_id: str) -> list[str]:
    """Returns the versions of registered models that were made of a run, such as `flowers/2`."""
    from mlflow.exceptions import MlflowException

    try:
        found = client.search_model_versions(f"run_id='{run_id}'")
    except MlflowException as error:
        if error.error_code in _NO_REGISTRY:
            return []
        raise
    return [f"{version.name}/{version.version}" for version in found]


def logged_models(client: "MlflowClient", experiment_id: str, run_id: str) -> list[str]:
    """Returns MLflow's ids of the models that were logged by a run."""
    found = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'")
    return [str(model.model_id) for model in found]


def _search(client: "MlflowClient", experiment_id: str, where: str) -> "list[Run]":
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment_id],
            where,
            max_results=1000,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        runs += page
        token = page.token
        if not token:
            return runs
