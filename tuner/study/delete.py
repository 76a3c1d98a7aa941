"""Removes a study. Imports neither torch nor ray.

MLflow's runs are removed first, then the record, and the folder last. Each is needed to find the one before
it, so a second call can finish one that was cut off. In a bucket MLflow's database is sent before the record
goes: if that is refused, the study is still there to do this again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import optuna

from tinytl.errors import ConfigError
from tinytl.passwords import without_password
from tinytl.plural import counted
from tuner.addresses import sqlite_file
from tuner.bucket.copies import copy_of, named, remove_from_bucket
from tuner.bucket.database import send_mlflow
from tuner.config import NO_TRACKING, STUDY_FILE, StudyConfig, check_study_name, read_study_file
from tuner.record import schema
from tuner.record.claim import FINISH_LOCK_FILE, LOCK_FILE, check_free, finish_claimed, folder_claimed
from tuner.record.journal import journal_of
from tuner.record.storage import load_study, open_storage_of, study_exists
from tuner.tracking.client import answering, open_mlflow
from tuner.tracking.lookup import experiment_name, find_runs, logged_models, registered_versions

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient
    from optuna.storages import BaseStorage


@dataclass(frozen=True, kw_only=True)
class FoundStudy:
    """What exists of a study."""

    name: str
    folder: Path
    study: optuna.Study | None
    """None: only a folder is left, of a call that was cut off."""
    store: BaseStorage | None
    """The study's record."""
    storage: str
    """The place of the record, for messages."""
    mlflow: MlflowClient | None
    """None: there is nothing of it in MLflow."""
    tracking_uri: str
    run_ids: tuple[str, ...]
    """In MLflow, without those of registered models."""
    model_ids: tuple[str, ...] = ()
    """MLflow's ids of finished models that it has logged, without registered ones."""
    registered: tuple[str, ...] = ()
    """Versions of registered models that were made of this study, such as `flowers/2`: they stay."""

    def lines(self) -> list[str]:
        """Returns a line for each thing that is there."""
        found = []
        if self.run_ids:
            n_runs = counted(len(self.run_ids), "run")
            models = counted(len(self.model_ids), "logged model")
            what = f"{n_runs} and {models}" if self.model_ids else n_runs
            found.append(f"{what} in MLflow at {without_password(self.tracking_uri)}")
        if self.study is not None:
            found.append(f"the record of {counted(len(_names(self.study)), 'trial')} in {self.storage}")
        if self.folder.is_dir():
            size = f" ({folder_mb(self.folder):.1f} MB)" if copy_of(self.folder) is None else ""
            found.append(f"the folder {named(self.folder)}{size}")
        return found

    @property
    def staying(self) -> str | None:
        """A line for what stays of it in MLflow; None if nothing does."""
        if not self.registered:
            return None
        named = ", ".join(f"models:/{version}" for version in self.registered)
        return (
            f"stays: {named} in MLflow's registry, with its run and files: remove it there if nobody uses it"
        )


def find_study(name: str, runs_dir: str, storage: str | None, tracking_uri: str | None) -> FoundStudy:
    """Finds everything of a study, and checks that MLflow answers.

    Raises:
        ConfigError: if there is no such study, a driver runs it, or its storage or MLflow does not answer.
    """
    check_study_name(name, "NAME")
    folder = Path(runs_dir) / name
    settings = read_study_file(name, runs_dir)
    url = storage or settings.get("storage")
    store: BaseStorage | None = None
    study: optuna.Study | None = None
    if study_exists(StudyConfig(runs_dir=runs_dir, storage=url), name):
        store = open_storage_of(name, url, runs_dir)
        study = optuna.load_study(study_name=name, storage=store)
    elif not settings:
        study = load_study(name, runs_dir, storage)  # raises with the names of those that exist
    attributes: Mapping[str, Any] = {} if study is None else study.user_attrs
    check_free(folder, attributes, name)
    uri = StudyConfig(
        runs_dir=runs_dir, tracking_uri=tracking_uri or settings.get("tracking_uri")
    ).resolved_tracking_uri
    client: MlflowClient | None = None
    runs = _Runs((), (), ())
    if _may_have_runs(uri, attributes):
        try:
            client = open_mlflow(uri)
        except ConfigError as error:
            raise ConfigError(f"{error}; --tracking-uri {NO_TRACKING} leaves its runs there") from None
        with answering(uri):
            runs = _runs_of(client, name, attributes)
    return FoundStudy(
        name=name,
        folder=folder,
        study=study,
        store=store,
        storage=named(journal_of(runs_dir, name)) if url is None else without_password(url),
        mlflow=client,
        tracking_uri=uri,
        run_ids=runs.run_ids,
        model_ids=runs.model_ids,
        registered=runs.registered,
    )


def delete_study(found: FoundStudy, tell: Callable[[str], None]) -> None:
    """Removes what was found; `tell` is called with a line for each thing that is gone.

    Raises:
        ConfigError: if a driver has begun to run the study, MLflow no longer answers, another process has
            sent MLflow's database to the bucket, or a file cannot be removed: the same call then continues.
    """
    lines = iter(found.lines())
    with ExitStack() as stack:
        if found.folder.is_dir():
            stack.enter_context(folder_claimed(found.folder, found.name))
            stack.enter_context(finish_claimed(found.folder, found.name))
        if found.mlflow is not None and found.run_ids:
            with answering(found.tracking_uri):
                for model_id in found.model_ids:
                    found.mlflow.delete_logged_model(model_id)
                for run_id in found.run_ids:
                    found.mlflow.delete_run(run_id)
        send_mlflow(str(found.folder.parent))  # also what a call before could not send
        if found.mlflow is not None and found.run_ids:
            tell(f"removed: {next(lines)}")
        if found.store is not None:
            optuna.delete_study(study_name=found.name, storage=found.store)
            tell(f"removed: {next(lines)}")
        if found.folder.is_dir():
            try:
                remove_from_bucket(found.folder, last=STUDY_FILE)
                _remove(found.folder)
            except OSError as error:
                raise ConfigError(f"{error.filename} cannot be removed ({error.strerror})") from None
            tell(f"removed: {next(lines)}")


def _remove(folder: Path) -> None:
    """Removes a folder; the file that marks it as a study's goes last."""
    last = (STUDY_FILE, LOCK_FILE, FINISH_LOCK_FILE)
    for entry in sorted(folder.iterdir(), key=lambda path: path.name in last):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    folder.rmdir()


def _may_have_runs(uri: str, attributes: Mapping[str, Any]) -> bool:
    """Whether MLflow may know the study: to look into a missing database would make one."""
    if uri == NO_TRACKING or schema.DATASET not in attributes:
        return False
    file = sqlite_file(uri)
    return file is None or file.exists()


class _Runs(NamedTuple):
    run_ids: tuple[str, ...]
    model_ids: tuple[str, ...]
    registered: tuple[str, ...]


def _runs_of(client: MlflowClient, name: str, attributes: Mapping[str, Any]) -> _Runs:
    """Returns the study's runs, the parent last: a second call finds what is left by it.

    Of a model that is registered, run and logged model are left out: a server may be loading it now.
    """
    experiment = client.get_experiment_by_name(experiment_name(attributes))
    if experiment is None:
        return _Runs((), (), ())
    study_id = attributes.get(schema.STUDY_ID)

    def of_kind(kind: str) -> list[str]:
        found = find_runs(client, experiment.experiment_id, name, study_id, kind)
        return [run.info.run_id for run in found]

    versions = {run_id: registered_versions(client, run_id) for run_id in of_kind("model")}
    models = [run_id for run_id, found in versions.items() if not found]
    return _Runs(
        (*of_kind("trial"), *models, *of_kind("study")),
        tuple(m for run_id in models for m in logged_models(client, experiment.experiment_id, run_id)),
        tuple(version for found in versions.values() for version in found),
    )


def _names(study: optuna.Study) -> set[str]:
    trials = study.get_trials(deepcopy=False)
    return {trial.user_attrs[schema.NAME] for trial in trials if schema.NAME in trial.user_attrs}


def folder_mb(folder: Path) -> float:
    """Returns the size of all files in a folder, in 1e6 bytes; 0 if there is no folder."""
    size = 0
    for place, _, files in os.walk(folder):
        for file in files:
            with suppress(FileNotFoundError):  # a worker may rename it just now
                size += (Path(place) / file).stat().st_size
    return size / 1e6
