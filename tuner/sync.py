"""MLflow brought in line with a study's storage and its trials' folders. Imports neither torch nor ray."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from tinytl.errors import ConfigError
from tuner import results
from tuner.config import StudyConfig, read_study_file
from tuner.mlflow_client import answering, open_mlflow
from tuner.mlflow_study import IDENTITY, STATUS, StudyLabels, StudyRuns, artifacts_of, changed
from tuner.storage import load_study

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


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """What the storage says of a trial; its attempts are one."""

    name: str
    state: str
    on_front: bool
    failure: str | None
    params: Mapping[str, Any]
    """The sampled ones."""
    start_ms: int | None
    end_ms: int | None

    @property
    def tags(self) -> dict[str, str]:
        failure = {"failure": self.failure} if self.failure else {}
        return {"state": self.state, "on_front": str(self.on_front).lower()} | failure


def sync(
    name: str, runs_dir: str, storage: str | None, tracking_uri: str | None, *, driver_is_gone: bool
) -> SyncCounts:
    """Makes MLflow say of a study what its storage and its trials' folders say; what agrees is not touched.

    `driver_is_gone`: trials that are RUNNING in the storage were cut off; else they are left alone.

    Raises:
        ConfigError: where there is no such study, or MLflow does not answer.
    """
    study = load_study(name, runs_dir, storage)
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
    for trial in _trials(study, driver_is_gone):
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


def _sync_child(runs: StudyRuns, run: "Run | None", trial: _Trial, folder: Path) -> bool:
    """Brings one trial's run in line; returns whether anything was written."""
    params: Mapping[str, Any] | None = None
    if run is None or not run.data.params:  # they are written in one call
        params = _read_params(folder) or trial.params
    run_id = run.info.run_id if run else runs.new_child(trial.name, params or {}, trial.start_ms)
    rows = _read_rows(folder)
    if run is not None and rows:
        recorded = runs.recorded_epochs(run_id)
        rows = [row for row in rows if row[0]["epoch"] not in recorded]
    tags = changed(trial.tags, run.data.tags if run else {})
    if params or rows or tags:
        runs.log(run_id, params, rows, tags)
    ended = run is not None and run.info.status == STATUS[trial.state]
    if not ended:
        runs.end(run_id, STATUS[trial.state], trial.end_ms)
    return bool(params or rows or tags) or not ended


def _trials(study: optuna.Study, driver_is_gone: bool) -> list[_Trial]:
    """Returns the named trials in order; of one that went on, its last attempt decides."""
    attempts: dict[str, list[FrozenTrial]] = {}
    for trial in study.get_trials(deepcopy=False):
        if "name" in trial.user_attrs and trial.state != TrialState.WAITING:
            attempts.setdefault(trial.user_attrs["name"], []).append(trial)
    front = {result.trial for result in results.pareto_front(results.complete_trials(study))}
    return [_trial(name, own, name in front, driver_is_gone) for name, own in attempts.items()]


def _trial(name: str, attempts: Sequence[FrozenTrial], on_front: bool, driver_is_gone: bool) -> _Trial:
    first, last = attempts[0], attempts[-1]
    state = results.state_of(last)
    if state == "running" and driver_is_gone:
        state = results.INTERRUPTED
    return _Trial(
        name=name,
        state=state,
        on_front=on_front,
        failure=str(last.user_attrs.get("failure", "")) if state == "failed" else None,
        params=last.params,
        start_ms=_ms(first.datetime_start),
        end_ms=_ms(last.datetime_complete),
    )


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)


def _read_params(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    if not path.is_file():
        return {}
    # The fast loader, where there is one: a study may have a thousand of these files.
    loaded = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return loaded if isinstance(loaded, dict) else {}


def _read_rows(folder: Path) -> list[tuple[dict[str, Any], int]]:
    """Returns the epochs' rows in order, each with the file's time; of an epoch trained twice, the first.

    A line that a kill cut off is left out.
    """
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return []
    time_ms = int(path.stat().st_mtime * 1000)
    rows: dict[int, dict[str, Any]] = {}
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
            rows.setdefault(int(row["epoch"]), row)
        except (ValueError, KeyError, TypeError):
            continue
    return [(rows[epoch], time_ms) for epoch in sorted(rows)]
