"""MLflow brought in line with a study's storage and its trials' folders. Imports neither torch nor ray."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

from tinytl.errors import ConfigError
from tuner.config import NO_TRACKING, StudyConfig, read_study_file
from tuner.findings.findings import read_findings
from tuner.record import results
from tuner.record.claim import holder_of
from tuner.record.sessions import session_at
from tuner.record.storage import load_study
from tuner.record.trials import read_params, read_rows
from tuner.tracking.artifacts import sync_study_artifacts, sync_trial_artifacts
from tuner.tracking.client import answering, open_mlflow
from tuner.tracking.note import note
from tuner.tracking.runs import STATUS, StudyRuns, changed, study_labels
from tuner.tracking.summary import StudySummary, read_summary
from tuner.tracking.trials import StoredTrial, as_ms, stored_trials
from tuner.tracking.view import shared_views

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
    config = StudyConfig(
        runs_dir=runs_dir, tracking_uri=tracking_uri or read_study_file(name, runs_dir).get("tracking_uri")
    )
    if config.tracking_uri == NO_TRACKING:
        raise ConfigError(
            f"study {name} was begun without MLflow: say where to bring it, "
            "such as --tracking-uri http://127.0.0.1:5000"
        )
    uri = config.resolved_tracking_uri
    labels = study_labels(study, runs_dir, uri)
    client = open_mlflow(uri)
    with answering(uri, Path(runs_dir) / name):
        return sync_runs(StudyRuns(client, labels), study, runs_dir, driver_is_gone=driver_is_gone)


def sync_runs(
    runs: StudyRuns,
    study: optuna.Study,
    runs_dir: str,
    *,
    driver_is_gone: bool,
    interrupted: bool | None = None,
) -> SyncCounts:
    """Brings all runs of a study in line, artifacts last; `interrupted`: how its driver ended, if known."""
    folder = Path(runs_dir) / runs.labels.name
    trials = stored_trials(study, folder, driver_is_gone)
    children, written, in_line = sync_children(runs, trials, folder)
    summary = read_summary(study, trials, read_findings(study, runs_dir), runs.labels)
    run_ids = {name: run.info.run_id for name, run in children.items()}
    if _sync_parent(runs, study, summary, driver_is_gone, interrupted) | _show(runs, summary, run_ids):
        written.add("")
    else:
        in_line.add("")
    # What is small first: where a server takes no files, it knows all else.
    for trial in trials:
        if trial.on_front and sync_trial_artifacts(runs.client, children[trial.name], folder / trial.name):
            written.add(trial.name)
    if sync_study_artifacts(runs, summary, folder):
        written.add("")
    return SyncCounts(len(written), len(in_line - written))


def sync_children(
    runs: StudyRuns, trials: list[StoredTrial], folder: Path
) -> "tuple[dict[str, Run], set[str], set[str]]":
    """Brings every trial's run in line; `folder` holds the trials' folders.

    Returns:
        The runs of those that have one, by name; the names of those that were written, and of those that
        agreed.
    """
    present = runs.children()
    kept: dict[str, Run] = {}
    written, in_line = set(), set()
    for trial in trials:
        first, *doubles = present.get(trial.name) or [None]
        if trial.state == "running":
            if first is not None:
                in_line.add(trial.name)
            continue
        wanted = trial.state != "infeasible"
        unwanted = doubles if wanted or first is None else [first, *doubles]
        for run in unwanted:
            runs.client.delete_run(run.info.run_id)
        wrote = False
        if wanted:
            kept[trial.name], wrote = _sync_child(runs, first, trial, folder / trial.name)
        if wrote or unwanted:
            written.add(trial.name)
        elif wanted:
            in_line.add(trial.name)
    return kept, written, in_line


def _sync_child(runs: StudyRuns, run: "Run | None", trial: StoredTrial, folder: Path) -> "tuple[Run, bool]":
    """Brings one trial's run in line; returns it as it was found or made, and whether it was written."""
    session = session_at(runs.labels.sessions, as_ms(trial.last_start))
    params: Mapping[str, Any] | None = None
    if run is None or not run.data.params:  # they are written in one call
        params = read_params(folder) or trial.params
    made = run is None
    if run is None:
        run_id = runs.new_child(trial.name, params or {}, as_ms(trial.start), session)
        run = runs.client.get_run(run_id)
    rows = read_rows(folder)
    names = [str(row["device_name"]) for row, _ in rows if "device_name" in row]
    device = {"device.name": names[-1]} if names else {}
    if not made and rows:
        recorded = runs.recorded_epochs(run.info.run_id)
        rows = [row for row in rows if row[0]["epoch"] not in recorded]
    wanted = trial.tags | device | ({} if session is None else session.tags)
    tags = changed(wanted, run.data.tags)
    if params or rows or tags:
        runs.log(run.info.run_id, params, rows, tags)
    added = _add_judged(runs, run, trial) | runs.add_images(run, session)
    ended = not made and run.info.status == STATUS[trial.state]
    if not ended:
        runs.end(run.info.run_id, STATUS[trial.state], as_ms(trial.end))
    return run, bool(params or rows or tags) or added or not ended


def _add_judged(runs: StudyRuns, run: "Run", trial: StoredTrial) -> bool:
    """Writes accuracies from after the search that a run lacks or has otherwise."""
    values = {key: value for key, value in trial.judged.items() if run.data.metrics.get(key) != value[0]}
    if values:
        again = run.data.metrics.keys() & values.keys()
        runs.log_values(run.info.run_id, values, None if again else as_ms(trial.end))
    return bool(values)


def _sync_parent(
    runs: StudyRuns,
    study: optuna.Study,
    summary: StudySummary,
    driver_is_gone: bool,
    interrupted: bool | None,
) -> bool:
    """Brings the study's own run in line and ends it; returns whether anything was written."""
    parent, status = runs.parent, summary.findings.status
    ended = results.ended_trials(status)
    wrote = runs.parent_is_new | runs.add_images(parent, session_at(runs.labels.sessions, None))
    tags = changed(runs.labels.parent_tags, parent.data.tags)
    if tags:
        runs.log(parent.info.run_id, tags=tags)
        wrote = True
    ends = [t.datetime_complete for t in study.get_trials(deepcopy=False) if t.datetime_complete]
    end_ms = as_ms(max(ends, default=None))
    values = {
        key: (value, ended) for key, value in summary.metrics.items() if parent.data.metrics.get(key) != value
    }
    if values:
        runs.log_values(parent.info.run_id, values, end_ms)
        wrote = True
    if interrupted is not None:
        wanted = "KILLED" if interrupted else "FINISHED"
    elif parent.info.status != "RUNNING":
        wanted = parent.info.status  # as its driver ended it
    elif ended >= status.requested:
        wanted = "FINISHED"
    else:
        wanted = "KILLED" if driver_is_gone or not status.trials["running"] else "RUNNING"
    if wanted != parent.info.status:
        runs.end(parent.info.run_id, wanted, end_ms)
        wrote = True
    return wrote


def _show(runs: StudyRuns, summary: StudySummary, run_ids: Mapping[str, str]) -> bool:
    """Writes the note of the study's run, and the views that it points to."""
    parent, experiment = runs.parent, runs.client.get_experiment(runs.experiment_id)
    text = {"mlflow.note.content": note(summary, run_ids, runs.experiment_id)}
    tags = changed(text, parent.data.tags)
    if tags:
        runs.log(parent.info.run_id, tags=tags)
    views = changed(shared_views(summary), experiment.tags)
    for key, value in views.items():
        runs.client.set_experiment_tag(runs.experiment_id, key, value)
    return bool(tags or views)
