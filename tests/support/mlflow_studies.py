"""Studies made by hand for the tests of MLflow: a journal, trials' folders, and all rows of a database."""

import hashlib
import json
import sqlite3
import tempfile
import uuid
from pathlib import Path
from types import SimpleNamespace

import optuna
from optuna.trial import TrialState

from search_spaces.space import load_space
from tinytl.config.train_config import TrainConfig
from tinytl.runs.directory import RunDirectory
from tuner.config import STUDY_FILE, StudyConfig
from tuner.prepared import PreparedStudy
from tuner.record import schema
from tuner.record.identity import identity_of
from tuner.record.sessions import begin_session, with_session
from tuner.record.storage import open_storage

STUDY_ID = schema.STUDY_ID
"""Under another name the study is one of an older version."""
NAME = "mine"
TABLES = ("experiments", "runs", "metrics", "latest_metrics", "params", "tags", "datasets", "inputs")
EPOCHS = 3
BEGAN_MS = 1_600_000_000_000


def prepared_study(runs_dir: Path, **fields) -> PreparedStudy:
    config = StudyConfig(space="separate_lr", name=NAME, runs_dir=str(runs_dir), trials=6, **fields)
    # The part that tracking reads.
    data = SimpleNamespace(
        name="digits", classes=("0", "1"), train=range(8), val=range(4), test=None, digest="0123456789abcdef"
    )
    return PreparedStudy(config, NAME, load_space("separate_lr"), TrainConfig(), data, {}, True)


def new_study(prepared: PreparedStudy) -> optuna.Study:
    """An empty study in the journal, with its attributes and its study.json."""
    config = prepared.config
    store = open_storage(None, config.runs_dir)
    study = optuna.create_study(study_name=NAME, storage=store, directions=["maximize", "minimize"])
    study.set_user_attr("requested_trials", config.trials)
    for key, value in identity_of(prepared).items():
        study.set_user_attr(key, value)
    study.set_user_attr(STUDY_ID, uuid.uuid4().hex)
    begin(prepared, study, BEGAN_MS)
    prepared.folder.mkdir(parents=True, exist_ok=True)
    saved = {"trials": config.trials, "epochs": EPOCHS, "sampler": "tpe", "command": ["launch.py"]}
    saved["tracking_uri"] = config.tracking_uri
    (prepared.folder / STUDY_FILE).write_text(json.dumps(saved))
    return study


def begin(prepared: PreparedStudy, study: optuna.Study, now_ms: int | None = None) -> None:
    """Records in the storage that a driver began, as launch.py does."""
    session = begin_session(prepared, now_ms)
    study.set_user_attr(schema.SESSIONS, with_session(study.user_attrs.get(schema.SESSIONS, []), session))


def start(study: optuna.Study, index: int) -> optuna.Trial:
    trial = study.ask()
    trial.suggest_float("base_lr", 1e-4, 1e-2)
    trial.set_user_attr("name", trial_name(index))
    trial.set_user_attr("peak_memory_mib", 40.0 + index)
    return trial


def trial_name(index: int) -> str:
    return f"separate_lr-{index:03d}"


def row(index: int, epoch: int) -> dict:
    return {
        "epoch": epoch,
        "accuracy_top1": 0.1 * index + 0.01 * epoch,
        "loss": 2.0 / epoch,
        "lr.classifier": 1e-3,
        "measured_peak_mib": None,
        "process_peak_mib": 640.5,
        "peak_memory_mib": 40.0 + index,
        "epoch_time_s": 0.5,
        "device_name": "a processor",
        "timestamp_ms": 1_700_000_000_000 + 1000 * (10 * index + epoch),
    }


def planned_config(index: int) -> TrainConfig:
    return TrainConfig(base_lr=1e-3 * (index + 1), input_mean=(0.5, 0.5, 0.5), num_classes=10)


def write_folder(prepared: PreparedStudy, index: int, epochs: int) -> list[dict]:
    """Writes a trial's folder with some epochs, as the trial itself does; returns the rows."""
    folder = prepared.folder / trial_name(index)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [row(index, epoch) for epoch in range(1, epochs + 1)]
    RunDirectory(folder).start(planned_config(index), rows)
    (folder / "last.pt").write_bytes(bytes([index, epochs]) * 1000)
    return rows


def end(study: optuna.Study, trial: optuna.Trial, index: int, **attrs) -> None:
    """Ends a trial: with attributes of one that did not complete, or complete."""
    for key, value in attrs.items():
        trial.set_user_attr(key, value)
    if "failure" in attrs or "interrupted" in attrs:
        study.tell(trial, state=TrialState.FAIL)
    elif "pruned_at" in attrs or "infeasible" in attrs:
        study.tell(trial, state=TrialState.PRUNED)
    else:
        trial.set_user_attr("epoch_time_s", 0.5)
        study.tell(trial, [0.1 * index + 0.01 * EPOCHS, 40.0 + index])


def every_kind(prepared: PreparedStudy) -> optuna.Study:
    """A study whose driver is gone, with a trial of each kind.

    0 complete (front), 1 pruned, 2 failed, 3 out of memory, 4 cut off and then complete (front),
    5 interrupted, 6 still RUNNING, 7 complete but dominated; and one over the budget, without a name.
    """
    study = new_study(prepared)
    for index, epochs, attrs in (
        (0, EPOCHS, {}),
        (1, 1, {"pruned_at": 1}),
        (2, 2, {"failure": "the loss is nan at step 7"}),
        (3, 1, {"infeasible": "out of memory", "measured_need_mib": 99.0}),
        (4, 1, {"interrupted": True}),
        (5, 2, {"interrupted": True}),
    ):
        write_folder(prepared, index, epochs)
        end(study, start(study, index), index, **attrs)
    write_folder(prepared, 4, EPOCHS)
    end(study, start(study, 4), 4)
    start(study, 6)
    write_folder(prepared, 6, 1)
    dominated = start(study, 7)
    write_folder(prepared, 7, EPOCHS)
    dominated.set_user_attr("epoch_time_s", 0.5)
    study.tell(dominated, [0.01, 60.0])
    over_budget = study.ask()
    over_budget.set_user_attr("infeasible", "80.0 MiB exceed the budget")
    study.tell(over_budget, state=TrialState.PRUNED)
    return study


def all_rows(database: Path) -> dict[str, list]:
    """Every row of the tables that hold runs."""
    with sqlite3.connect(database) as connection:
        return {table: sorted(connection.execute(f"SELECT * FROM {table}"), key=repr) for table in TABLES}


def view(client, with_artifacts: bool = True) -> dict[str, dict]:
    """MLflow's record of the study by run name; ids of runs are replaced by their names."""
    experiments = client.search_experiments()
    runs = client.search_runs([e.experiment_id for e in experiments], f"tags.study = '{NAME}'")
    names = {e.experiment_id: e.name for e in experiments}
    run_names = {run.info.run_id: run.info.run_name for run in runs}
    assert len(set(run_names.values())) == len(runs)
    return {run.info.run_name: _view_of(client, run, names, run_names, with_artifacts) for run in runs}


def _view_of(client, run, experiments, run_names, with_artifacts) -> dict:
    def named(text: str) -> str:
        for run_id, name in run_names.items():
            text = text.replace(run_id, name)
        return text

    hidden = ("mlflow.user", "mlflow.source.name", "mlflow.source.type")
    return {
        "experiment": experiments[run.info.experiment_id],
        "status": run.info.status,
        "params": run.data.params,
        "tags": {k: named(v) for k, v in run.data.tags.items() if k not in hidden},
        "metrics": {
            key: [(m.step, m.value, m.timestamp) for m in client.get_metric_history(run.info.run_id, key)]
            for key in run.data.metrics
        },
        "inputs": [(i.dataset.to_dictionary(), [t.value for t in i.tags]) for i in run.inputs.dataset_inputs],
        "artifacts": artifacts(client, run.info.run_id) if with_artifacts else None,
    }


def artifacts(client, run_id: str) -> dict[str, str]:
    """Digest of each artifact's bytes, by its path."""
    with tempfile.TemporaryDirectory() as temporary:
        return {
            path: hashlib.sha256(
                Path(client.download_artifacts(run_id, path, temporary)).read_bytes()
            ).hexdigest()
            for path in _files_under(client, run_id, None)
        }


def _files_under(client, run_id: str, folder: str | None) -> list[str]:
    found = client.list_artifacts(run_id, folder)
    inside = [path for one in found if one.is_dir for path in _files_under(client, run_id, one.path)]
    return [one.path for one in found if not one.is_dir] + inside
