"""A finished model in MLflow: a run of its own below its study's, a logged model, a registered version."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tinytl
from tinytl.config.flat import flat_from_config
from tinytl.config.names import METRICS
from tinytl.errors import ConfigError
from tinytl.networks.backbones.named import is_named
from tinytl.passwords import without_password
from tinytl.runs.directory import read_config_file
from tinytl.runs.exported import CONFIG_FILE, SAFETENSORS_FILE
from tuner.addresses import is_server
from tuner.next_commands import sync_command, where_flags
from tuner.record.reading import StudyReading
from tuner.record.sessions import program_of
from tuner.record.trials import read_rows
from tuner.tracking import picture_model
from tuner.tracking.client import answering, check_database, open_mlflow
from tuner.tracking.lookup import find_runs, logged_models
from tuner.tracking.note import LONGEST
from tuner.tracking.picture_model import CLASS, PICTURE, PROBABILITIES, PROBABILITY
from tuner.tracking.runs import StudyRuns, digests_of, study_labels

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.models import ModelSignature

KIND = "model"
"""Tag `kind` of a model's run, as `study` and `trial` are those of the others."""
DIGEST, MODEL_ID = "weights.sha256", "model.id"
"""Tags of a model's run: which weights it holds, and MLflow's id of the logged model."""
NAME = "model"
REQUIREMENTS = ("torch", "numpy", "pillow", "pyyaml", "safetensors", "scikit-learn", "rich", "pooch")
"""Packages that tinytl needs to read a model and a picture: the code itself lies beside the model."""
_EXAMPLE_SIDE = 32


@dataclass(frozen=True, kw_only=True)
class FinishedModel:
    """A finished model's folder, read."""

    folder: Path
    about: Mapping[str, Any]
    """What its `model.json` holds."""
    card: str
    training: Path
    """The folder of its training run; its curves are recorded if it is still there."""

    @property
    def digest(self) -> str:
        """Of its weights."""
        return str(self.about["sha256"][SAFETENSORS_FILE])

    @property
    def figures(self) -> dict[str, float]:
        """Its figures on the test images."""
        found = {f"test_{name}": self.about.get(f"test_{name}") for name in METRICS}
        return {name: figure for name, figure in found.items() if figure is not None}


def open_runs(study: StudyReading, uri: str) -> StudyRuns:
    """Returns the runs of a study that MLflow at `uri` knows.

    Raises:
        ConfigError: if MLflow does not answer, or does not know the study.
    """
    if not is_server(uri):
        check_database(uri)
    client = open_mlflow(uri)
    labels = study_labels(study, uri)
    with answering(uri):
        experiment = client.get_experiment_by_name(labels.experiment)
        known = experiment is not None and find_runs(
            client, experiment.experiment_id, labels.name, labels.study_id, "study"
        )
        if not known:
            command = sync_command(study.name, where_flags(study.runs_dir), uri)
            raise ConfigError(
                f"MLflow at {without_password(uri)} does not know study {study.name}: first `{command}`"
            )
        return StudyRuns(client, labels)


def check_registry(runs: StudyRuns, uri: str, name: str) -> None:
    """Raises ConfigError if MLflow has no registry of models, or does not accept a model's name."""
    if not name.strip() or set("/:") & set(name):
        raise ConfigError("a model's name is not empty and has no / and no colon")
    with answering(uri):
        runs.client.search_registered_models(max_results=1)


def is_logged(runs: StudyRuns, model: FinishedModel) -> bool:
    """Whether MLflow has the model."""
    return any(run.info.status == "FINISHED" for run in _runs_of(runs, model))


def log_finished(runs: StudyRuns, uri: str, model: FinishedModel) -> str:
    """Logs a model below its study, unless it is there already; returns MLflow's id of the logged model.

    Raises:
        ConfigError: if MLflow does not answer.
    """
    with answering(uri):
        for run in _runs_of(runs, model):
            if run.info.status == "FINISHED":
                return str(run.data.tags[MODEL_ID])
            for model_id in logged_models(runs.client, runs.experiment_id, run.info.run_id):
                runs.client.delete_logged_model(model_id)
            runs.client.delete_run(run.info.run_id)  # of a process that was killed
        run_id = _new_run(runs, model)
        model_id = _log_pyfunc(runs, uri, run_id, model)
        runs.client.set_tag(run_id, MODEL_ID, model_id)
        runs.end(run_id, "FINISHED", None)
        return model_id


def register(runs: StudyRuns, uri: str, model_id: str, name: str, description: str) -> int:
    """Makes a version of the registered model `name` of a logged model; returns its number, old or new.

    Raises:
        ConfigError: if MLflow does not answer, or refuses.
    """
    from mlflow.exceptions import MlflowException

    client = runs.client
    with answering(uri), _default_uri(uri):  # MLflow looks up what `models:/` names there
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        run_id = client.get_logged_model(model_id).source_run_id
        quoted = name.replace("'", "\\'")
        for known in client.search_model_versions(f"name='{quoted}'"):
            if known.run_id == run_id:  # MLflow's database keeps no id of the logged model
                return int(known.version)
        made = client.create_model_version(
            name, f"models:/{model_id}", run_id, description=description, model_id=model_id
        )
        return int(made.version)


def _runs_of(runs: StudyRuns, model: FinishedModel) -> "list[Run]":
    labels = runs.labels
    found = find_runs(runs.client, runs.experiment_id, labels.name, labels.study_id, KIND)
    return [run for run in found if run.data.tags.get(DIGEST) == model.digest]


def _new_run(runs: StudyRuns, model: FinishedModel) -> str:
    """Makes a model's run, with its configuration, its curves and its figures; returns its id."""
    about, labels = model.about, runs.labels
    session = labels.sessions[-1] if labels.sessions else None
    tags = labels.own_tags | {
        **({} if session is None else session.tags),
        "mlflow.parentRunId": runs.parent.info.run_id,
        "mlflow.source.name": program_of(about["command"]),
        "mlflow.note.content": model.card if len(model.card) <= LONGEST else model.card[: LONGEST - 1] + "…",
        "kind": KIND,
        "trial": str(about["trial"]),
        "command": str(about["command"]),
        DIGEST: model.digest,
    }
    run = runs.client.create_run(runs.experiment_id, tags=tags, run_name=f"{labels.name}-{NAME}")
    run_id = str(run.info.run_id)
    params = flat_from_config(read_config_file(model.folder / CONFIG_FILE))
    runs.log(run_id, params, read_rows(model.training))
    if model.figures:
        runs.log_values(run_id, {name: (value, 0) for name, value in model.figures.items()}, None)
    runs.add_images(run_id, digests_of(run), session)
    return run_id


def _extras(backbone: str) -> list[str]:
    """Returns the extras of this project that a network needs to be built again."""
    if is_named(backbone):
        return [backbone.partition("/")[0]]
    return ["torchvision"] if backbone == "mobilenet_v2" else []


def _log_pyfunc(runs: StudyRuns, uri: str, run_id: str, model: FinishedModel) -> str:
    import mlflow
    from mlflow.models import Model
    from pandas import DataFrame

    loader = Path(picture_model.__file__)
    logged = runs.client.create_logged_model(runs.experiment_id, NAME, run_id)
    extra = ["torchvision"] if model.about["backbone"] == "mobilenet_v2" else []
    with _default_uri(uri):
        Model.log(
            artifact_path=None,
            name=NAME,
            flavor=mlflow.pyfunc,
            run_id=run_id,
            model_id=logged.model_id,
            loader_module=loader.stem,
            data_path=str(model.folder),
            code_paths=[str(loader), str(Path(tinytl.__file__).parent)],
            signature=_signature(),
            input_example=DataFrame({PICTURE: [_example()]}),
            pip_requirements=[
                f"{name}=={version(name).partition('+')[0]}" for name in (*REQUIREMENTS, *extra)
            ],
        )
    return str(logged.model_id)


def _signature() -> "ModelSignature":
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Map

    return ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, PICTURE)]),
        outputs=Schema(
            [
                ColSpec(DataType.string, CLASS),
                ColSpec(DataType.double, PROBABILITY),
                ColSpec(Map(DataType.double), PROBABILITIES),
            ]
        ),
    )


def _example() -> bytes:
    """Returns a grey picture: an example of the data could be private."""
    from PIL import Image

    out = BytesIO()
    Image.new("RGB", (_EXAMPLE_SIDE, _EXAMPLE_SIDE), (128, 128, 128)).save(out, "png")
    return out.getvalue()


@contextmanager
def _default_uri(uri: str) -> Iterator[None]:
    """Makes `uri` the address that MLflow's functions without a client use, within the block."""
    import mlflow

    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)


def serve_command(uri: str, model_id: str) -> str:
    """Returns the command that serves a logged model on this machine."""
    words = ["mlflow", "models", "serve", "-m", f"models:/{model_id}", "--env-manager", "local"]
    return f"MLFLOW_TRACKING_URI={shlex.quote(without_password(uri))} {shlex.join(words)}"
