"""MLflow brought in line with a study's storage and its trials' folders. Imports neither torch nor ray."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

from tinytl.errors import ConfigError
from tuner import results
from tuner.claim import holder_of
from tuner.config import StudyConfig, read_study_file
from tuner.mlflow_client import answering, open_mlflow
from tuner.mlflow_study import IDENTITY, STATUS, StudyLabels, StudyRuns, artifacts_of, changed
from tuner.storage import load_study
from tuner.trial_records import TrialRecord, read_params, read_rows, trial_records

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True)
class SyncCounts:
    """How many of a study's runs, its parent among them, had to be written, and how many agreed."""

    written: int
    in_line: int

    def __add__(self, other: "SyncCounts") -> "SyncCounts":
        return SyncCounts(self.written + other.written, self.in_line + other.in_line)

    def __str__(self) -> str:
        return f"{self.written} run{'' if self.written == 1 else 's'} written, {self.in_line} in line"


def sync(
    name: str,
    runs_dir: str,
    storage: str | None,
    tracking_uri: str | None,
    *,
    driver_is_gone: bool | None = None,
) -> SyncCounts:
    """Makes MLflow say of a study what its storage and its trials' folders say; what agrees is not touched.

    `driver_is_gone`: trials that are RUNNING in the storage were cut off; else they are left alone. Unset: it
    is found out.

    Raises:
        ConfigError: where there is no such study, or MLflow does not answer.
    """
    study = load_study(name, runs_dir, storage)
    if driver_is_gone is None:
        driver_is_gone = holder_of(Path(runs_dir) / name, study.user_attrs) is None
    settings = read_study_file(name, runs_dir)
    uri = tracking_uri or settings.get("tracking_uri")
    config = StudyConfig(runs_dir=runs_dir, tracking_uri=uri)
    for key in ("dataset", "space"):
        if key not in study.user_attrs:
            raise ConfigError(f"study {name} names no {key}: launch.py did not make it")
    labels = StudyLabels(
        name=name,
        identity={key: str(study.user_attrs[key]) for key in IDENTITY if key in study.user_attrs},
        settings=settings,
        artifacts=artifacts_of(runs_dir, uri),
    )
    client = open_mlflow(config.resolved_tracking_uri)
    with answering(config.resolved_tracking_uri):
        runs = StudyRuns(client, labels)
        children = sync_children(runs, study, Path(runs_dir) / name, driver_is_gone=driver_is_gone)
        return children + sync_parent(runs, study, driver_is_gone=driver_is_gone)


def sync_children(runs: StudyRuns, study: optuna.Study, folder: Path, *, driver_is_gone: bool) -> SyncCounts:
    """Brings every trial's run in line; `folder` holds the trials' folders."""
    children = runs.children()
    written = in_line = 0
    for trial in trial_records(study, driver_is_gone=driver_is_gone):
        first, *doubles = children.get(trial.name) or [None]
        if trial.state == "running":
            in_line += first is not None
            continue
        wanted = trial.state != "infeasible"
        unwanted = doubles if wanted or first is None else [first, *doubles]
        for run in unwanted:
            runs.client.delete_run(run.info.run_id)
        wrote = wanted and _sync_child(runs, first, trial, folder / trial.name)
        if wrote or unwanted:
            written += 1
        elif wanted:
            in_line += 1
    return SyncCounts(written, in_line)


def sync_parent(
    runs: StudyRuns, study: optuna.Study, *, driver_is_gone: bool, interrupted: bool | None = None
) -> SyncCounts:
    """Brings the study's own run in line and ends it; `interrupted`: how its driver ended, where known."""
    parent, status = runs.parent, results.read_status(study)
    wrote = runs.parent_is_new
    tags = changed(runs.labels.parent_tags, parent.data.tags)
    if tags:
        runs.log(parent.info.run_id, tags=tags)
        wrote = True
    whole = results.ended_trials(status) >= status.requested
    if interrupted is not None:
        wanted = "KILLED" if interrupted else "FINISHED"
    elif parent.info.status != "RUNNING":
        wanted = parent.info.status  # as its driver ended it
    elif whole:
        wanted = "FINISHED"
    else:
        wanted = "KILLED" if driver_is_gone or not status.trials["running"] else "RUNNING"
    if wanted != parent.info.status:
        ends = [t.datetime_complete for t in study.get_trials(deepcopy=False) if t.datetime_complete]
        runs.end(
            parent.info.run_id, wanted, None if interrupted is not None else _ms(max(ends, default=None))
        )
        wrote = True
    return SyncCounts(int(wrote), int(not wrote))


def _sync_child(runs: StudyRuns, run: "Run | None", trial: TrialRecord, folder: Path) -> bool:
    """Brings one trial's run in line; returns whether anything was written."""
    params: Mapping[str, Any] | None = None
    if run is None or not run.data.params:  # they are written in one call
        params = read_params(folder) or trial.params
    run_id = run.info.run_id if run else runs.new_child(trial.name, params or {}, _ms(trial.start))
    rows = read_rows(folder)
    if run is not None and rows:
        recorded = runs.recorded_epochs(run_id)
        rows = [row for row in rows if row[0]["epoch"] not in recorded]
    tags = changed(_tags(trial), run.data.tags if run else {})
    if params or rows or tags:
        runs.log(run_id, params, rows, tags)
    ended = run is not None and run.info.status == STATUS[trial.state]
    if not ended:
        runs.end(run_id, STATUS[trial.state], _ms(trial.end))
    return bool(params or rows or tags) or not ended


def _tags(trial: TrialRecord) -> dict[str, str]:
    failure = {"failure": trial.failure} if trial.state == "failed" and trial.failure else {}
    return {"state": trial.state, "on_front": str(trial.on_front).lower()} | failure


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)
