"""A study's runs in MLflow: a parent, and a child per trial. Imports mlflow when used."""

import json
import math
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinytl.config.names import METRICS as JUDGED
from tinytl.errors import ConfigError
from tuner.record import schema
from tuner.record.identity import networks_of
from tuner.record.reading import StudyReading
from tuner.record.sessions import Session
from tuner.record.trials import PLAN_FIGURES
from tuner.tracking.client import artifacts_beside
from tuner.tracking.lookup import experiment_name, find_runs, is_taken

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric, Run
    from mlflow.tracking import MlflowClient

METRICS = (
    "epoch",
    *JUDGED,
    "train_accuracy_top1",
    "loss",
    "val_loss",
    "peak_memory_mib",
    *PLAN_FIGURES,
    "trained_memory_mib",
    "measured_peak_mib",
    "process_peak_mib",
    "epoch_time_s",
    "images_per_s",
    "features_read",
)
"""What is recorded each epoch, beside `lr.GROUP` of every parameter group. `epoch` says which exist."""
SYSTEM = "system/"
"""Prefix of the metrics of the machine, if a study records them; MLflow has a page for these."""
IDENTITY = (
    schema.DATASET,
    schema.SPACE,
    schema.BACKBONE,
    schema.WEIGHTS,
    schema.EPOCHS,
    schema.OBJECTIVES,
)
"""Parameters of the parent: what a study cannot change."""
SETTINGS = ("trials", "memory_budget_mib", "max_slowdown", "sampler", "scheduler", "seed")
"""Tags of the parent: the settings of its last driver. MLflow's parameters could not change with a resume."""
LATER_SHOWN = 3
"""The last commands that resumed a study."""
ROWS_PER_CALL = 50
"""MLflow accepts 1000 values per call."""
SEARCHED = "searched/"
"""Prefix of a searched number that is also recorded as a metric: MLflow sorts parameters as text."""


@dataclass(frozen=True, kw_only=True)
class StudyLabels:
    """What names a study in MLflow, and describes its runs."""

    name: str
    identity: Mapping[str, Any]
    """The study's user attributes: `experiment`, `space`, and what else the study cannot change."""
    settings: Mapping[str, Any]
    """What `study.json` holds."""
    sessions: Sequence[Session]
    artifacts: str | None
    """Where a new experiment keeps its artifacts; None: the server decides."""

    @property
    def experiment(self) -> str:
        """The name of the study's experiment."""
        return experiment_name(self.identity)

    @property
    def own_tags(self) -> dict[str, str]:
        """Returns what distinguishes this study's runs from all others."""
        known = {} if self.study_id is None else {schema.STUDY_ID: self.study_id}
        return {"study": self.name, "space": str(self.identity[schema.SPACE])} | known

    @property
    def study_id(self) -> str | None:
        """The study's unique id; None if an older version made the study."""
        return self.identity.get(schema.STUDY_ID)

    @property
    def command(self) -> str:
        """The command that began the study."""
        if self.sessions:
            return self.sessions[0].command
        return shlex.join(["python", *self.settings.get("command", ["launch.py"])])

    @property
    def later_commands(self) -> list[str]:
        """Returns the last commands that resumed it, each once."""
        later = dict.fromkeys(session.command for session in self.sessions[1:])
        return [command for command in later if command != self.command][-LATER_SHOWN:]

    @property
    def parent_tags(self) -> dict[str, str]:
        """Returns all tags of the parent run."""
        settings = {key: str(self.settings[key]) for key in SETTINGS if key in self.settings}
        session = self.sessions[-1].tags if self.sessions else {}
        own = self.own_tags | {"kind": "study"}
        commands = {"command": self.command}
        if self.later_commands:
            commands["then"] = "\n".join(self.later_commands)
        return own | commands | settings | session


def study_labels(study: StudyReading, tracking_uri: str) -> StudyLabels:
    """Returns what names and describes a study.

    Raises:
        ConfigError: for a study that another program made.
    """
    for key in (schema.DATASET, schema.SPACE):
        if key not in study.attributes:
            raise ConfigError(f"study {study.name} names no {key}: launch.py did not make it")
    return StudyLabels(
        name=study.name,
        identity=study.attributes,
        settings=study.settings,
        sessions=study.sessions,
        artifacts=artifacts_beside(tracking_uri, Path(study.runs_dir)),
    )


def metrics_of(row: Mapping[str, Any], time_ms: int) -> "list[Metric]":
    """Returns a row of metrics.jsonl as MLflow's metrics, at its own `timestamp_ms` or else `time_ms`."""
    from mlflow.entities import Metric

    time_ms, step = int(row.get("timestamp_ms") or time_ms), int(row["epoch"])
    return [
        Metric(key, float(value), time_ms, step)
        for key, value in row.items()
        if (key in METRICS or key.startswith(("lr.", SYSTEM)))
        and isinstance(value, (int, float))
        and math.isfinite(value)
    ]


class StudyRuns:
    """Finds the study's experiment and parent run, or makes them.

    Raises:
        ConfigError: if the experiment has another study of that name.
    """

    def __init__(self, client: "MlflowClient", labels: StudyLabels) -> None:
        self.client = client
        self.labels = labels
        self.experiment_id = self._experiment()
        found = self._find("study")
        self.parent_is_new = not found
        self.parent: Run = found[0] if found else self._new_parent()

    def children(self) -> "dict[str, list[Run]]":
        """Returns the trials' runs by the trials' names; if a trial has several, the oldest is first."""
        children: dict[str, list[Run]] = {}
        for run in self._find("trial"):
            children.setdefault(run.data.tags["trial"], []).append(run)
        return children

    def new_child(
        self, name: str, params: Mapping[str, Any], start_ms: int | None, session: Session | None
    ) -> "Run":
        """Makes a trial's run, without its parameters."""
        tags = self.labels.own_tags | {
            "mlflow.parentRunId": self.parent.info.run_id,
            "kind": "trial",
            "trial": name,
            "state": "running",
            "on_front": "false",
        }
        if "method" in params:
            tags["method"] = str(params["method"])
        if session is not None:
            tags |= session.tags
        return self.client.create_run(self.experiment_id, start_time=start_ms, tags=tags, run_name=name)

    def add_images(self, run_id: str, present: set[str], session: Session | None) -> bool:
        """Adds a session's data set to a run's inputs unless its digest is `present`; whether it did."""
        if session is None or session.images.digest is None or session.images.digest in present:
            return False
        self.client.log_inputs(run_id, [_dataset_input(session)])
        present.add(session.images.digest)
        return True

    def recorded_epochs(self, run_id: str) -> set[int]:
        """Returns the epochs that a run has metrics of: an epoch's metrics are written all or none."""
        return {metric.step for metric in self.client.get_metric_history(run_id, "epoch")}

    def log(
        self,
        run_id: str,
        params: Mapping[str, Any] | None = None,
        rows: Sequence[tuple[Mapping[str, Any], int]] = (),
        tags: Mapping[str, str] | None = None,
        searched: Iterable[str] = (),
    ) -> None:
        """Writes parameters, rows of metrics (each with its time in ms) and tags, in one call if it can.

        Of the parameters named in `searched`, numbers are written as metrics, too.
        """
        from mlflow.entities import Param, RunTag

        texts = [Param(key, _text(value)) for key, value in (params or {}).items()]
        labels = [RunTag(key, value) for key, value in (tags or {}).items()]
        numbers = self._as_metrics({key: v for key, v in (params or {}).items() if key in set(searched)})
        for start in range(0, max(len(rows), 1), ROWS_PER_CALL):
            metrics = [m for row, ms in rows[start : start + ROWS_PER_CALL] for m in metrics_of(row, ms)]
            if metrics or texts or labels:
                self.client.log_batch(run_id, metrics=numbers + metrics, params=texts, tags=labels)
            texts, labels, numbers = [], [], []

    def _as_metrics(self, searched: Mapping[str, Any]) -> "list[Metric]":
        """Returns the searched parameters that are numbers as metrics, at the study's start time."""
        from mlflow.entities import Metric

        sessions = self.labels.sessions
        began_ms = sessions[0].began_ms if sessions else 0
        return [
            Metric(SEARCHED + key, float(value), began_ms, 0)
            for key, value in searched.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        ]

    def log_values(self, run_id: str, values: Mapping[str, tuple[float, int]], time_ms: int | None) -> None:
        """Writes metrics, each a value and its step, at `time_ms` or now."""
        from mlflow.entities import Metric

        time_ms = int(time.time() * 1000) if time_ms is None else time_ms
        metrics = [Metric(key, value, time_ms, step) for key, (value, step) in values.items()]
        self.client.log_batch(run_id, metrics=metrics)

    def end(self, run_id: str, status: str, end_ms: int | None) -> None:
        """Ends a run, at `end_ms` or now."""
        self.client.set_terminated(run_id, status, end_ms)

    def _find(self, kind: str) -> "list[Run]":
        return find_runs(self.client, self.experiment_id, self.labels.name, self.labels.study_id, kind)

    def _experiment(self) -> str:
        name = self.labels.experiment
        found = self.client.get_experiment_by_name(name)
        if found is None:
            return str(self.client.create_experiment(name, artifact_location=self.labels.artifacts))
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _new_parent(self) -> "Run":
        labels = self.labels
        if is_taken(self.client, self.experiment_id, labels.name):
            raise ConfigError(
                f"study {labels.name}: MLflow's experiment {labels.experiment} has another study of that "
                "name: delete its runs there, or give another --tracking-uri"
            )
        run = self.client.create_run(
            self.experiment_id,
            start_time=labels.sessions[0].began_ms if labels.sessions else None,
            run_name=labels.name,
            tags=labels.parent_tags,
        )
        identity = {key: labels.identity[key] for key in IDENTITY if key in labels.identity}
        identity[schema.BACKBONE] = ", ".join(networks_of(labels.identity))
        self.log(run.info.run_id, identity)
        return run


def _dataset_input(session: Session) -> "DatasetInput":
    from mlflow.entities import Dataset, DatasetInput, InputTag

    images = session.images
    dataset = Dataset(
        name=images.name,
        digest=images.digest or "",
        source_type="local",
        source=json.dumps({"uri": images.source}),
        profile=json.dumps({"classes": images.classes, **images.counts}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def digests_of(run: "Run") -> set[str]:
    """Returns the digests of the data sets that are a run's inputs."""
    return {taken.dataset.digest for taken in run.inputs.dataset_inputs} if run.inputs else set()


def changed(wanted: Mapping[str, str], present: Mapping[str, str]) -> dict[str, str]:
    """Returns the tags that a run lacks or that differ."""
    return {key: value for key, value in wanted.items() if present.get(key) != value}


def _text(value: Any) -> str:
    """Returns a parameter as text: tuples as the lists that they are in a file."""
    text = str(list(value) if isinstance(value, Iterable) and not isinstance(value, str) else value)
    return text.encode(errors="backslashreplace").decode()  # a folder's name may be no UTF-8
