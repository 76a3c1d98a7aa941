"""Brings MLflow in line with a study's storage and its trials' folders. Imports neither torch nor ray."""

from collections.abc import Mapping
from dataclasses import dataclass

from tinytl.errors import ConfigError
from tinytl.plural import counted
from tuner.config import NO_TRACKING, StudyConfig
from tuner.record.reading import StudyReading, read_study
from tuner.record.sessions import session_at
from tuner.record.storage import load_study
from tuner.record.trials import read_params, read_rows
from tuner.tracking.artifacts import sync_study_artifacts, sync_trial_artifacts
from tuner.tracking.children import TrialRuns
from tuner.tracking.client import answering, open_mlflow
from tuner.tracking.note import note
from tuner.tracking.runs import StudyRuns, changed, digests_of, study_labels
from tuner.tracking.summary import StudySummary
from tuner.tracking.trials import as_ms
from tuner.tracking.view import shared_views


@dataclass(frozen=True)
class SyncCounts:
    """How many of a study's runs, with its parent, had to be written, and how many agreed."""

    written: int
    in_line: int

    def __add__(self, other: "SyncCounts") -> "SyncCounts":
        return SyncCounts(self.written + other.written, self.in_line + other.in_line)

    def __str__(self) -> str:
        return f"{counted(self.written, 'run')} written, {self.in_line} in line"


def sync(
    name: str,
    runs_dir: str,
    storage: str | None,
    tracking_uri: str | None,
    *,
    driver_is_gone: bool | None = None,
) -> SyncCounts:
    """Makes MLflow match a study's storage and its trials' folders; what agrees is not touched.

    `driver_is_gone`: trials that are RUNNING in the storage were cut off; else they are left alone. None:
    find out.

    Raises:
        ConfigError: if there is no such study, or MLflow does not answer.
    """
    study = read_study(load_study(name, runs_dir, storage), runs_dir, driver_is_gone=driver_is_gone)
    config = StudyConfig(runs_dir=runs_dir, tracking_uri=tracking_uri or study.settings.get("tracking_uri"))
    if config.tracking_uri == NO_TRACKING:
        raise ConfigError(
            f"study {name} was begun without MLflow: say where to record it, "
            "such as --tracking-uri http://127.0.0.1:5000"
        )
    uri = config.resolved_tracking_uri
    labels = study_labels(study, uri)
    client = open_mlflow(uri)
    with answering(uri, study.folder):
        return sync_runs(StudyRuns(client, labels), study)


def sync_runs(runs: StudyRuns, study: StudyReading, interrupted: bool | None = None) -> SyncCounts:
    """Brings all runs of a study in line, artifacts last; `interrupted`: how its driver ended, if known."""
    trial_runs = TrialRuns(runs)
    written, in_line = sync_trials(trial_runs, study)
    summary = StudySummary(study=study, labels=runs.labels)
    children = {name: found[0] for name, found in trial_runs.by_trial.items() if found}
    run_ids = {name: child.run_id for name, child in children.items()}
    if _sync_parent(runs, summary, interrupted) | _show(runs, summary, run_ids):
        written.add("")
    else:
        in_line.add("")
    # Artifacts last: a server that accepts no files has all else by then.
    for trial in study.front:
        if sync_trial_artifacts(runs.client, children[trial.name].run, study.folder / trial.name):
            written.add(trial.name)
    if sync_study_artifacts(runs, summary, study.folder):
        written.add("")
    return SyncCounts(len(written), len(in_line - written))


def sync_trials(runs: TrialRuns, study: StudyReading) -> tuple[set[str], set[str]]:
    """Brings the run of every ended trial in line.

    Returns:
        The names of the trials with a run that was written, and of those with a run that agreed.
    """
    written, in_line = set(), set()
    for trial in study.trials:
        folder, params = study.folder / trial.name, trial.params
        if trial.state == "running":  # its driver writes it
            if runs.by_trial.get(trial.name):
                in_line.add(trial.name)
            continue
        rows = [] if trial.state == "infeasible" else read_rows(folder)
        if runs.bring_in_line(trial, rows, lambda f=folder, p=params: read_params(f) or p):  # type: ignore[misc]
            written.add(trial.name)
        elif trial.state != "infeasible":
            in_line.add(trial.name)
    return written, in_line


def _sync_parent(runs: StudyRuns, summary: StudySummary, interrupted: bool | None) -> bool:
    """Brings the study's own run in line and ends it; returns whether anything was written."""
    parent, study = runs.parent, summary.study
    images = runs.add_images(parent.info.run_id, digests_of(parent), session_at(runs.labels.sessions, None))
    wrote = runs.parent_is_new | images
    tags = changed(runs.labels.parent_tags, parent.data.tags)
    if tags:
        runs.log(parent.info.run_id, tags=tags)
        wrote = True
    end_ms = as_ms(study.last_end)
    values = {
        key: (value, study.ended)
        for key, value in summary.metrics.items()
        if parent.data.metrics.get(key) != value
    }
    if values:
        runs.log_values(parent.info.run_id, values, end_ms)
        wrote = True
    if interrupted is not None:
        wanted = "KILLED" if interrupted else "FINISHED"
    elif parent.info.status != "RUNNING":
        wanted = parent.info.status  # as its driver ended it
    elif study.ended >= study.requested:
        wanted = "FINISHED"
    else:
        running = any(trial.state == "running" for trial in study.trials)
        wanted = "RUNNING" if running else "KILLED"
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
