"""A study's runs in MLflow: a parent, and a child a trial, found by tag. Imports mlflow when used."""

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.mlflow_client import ARTIFACTS

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run
    from mlflow.tracking import MlflowClient

METRICS = (
    "epoch",
    "accuracy_top1",
    "train_accuracy_top1",
    "loss",
    "val_loss",
    "peak_memory_mib",
    "measured_peak_mib",
    "epoch_time_s",
    "images_per_s",
)
"""What is recorded each epoch, beside `lr.GROUP` of every parameter group. `epoch` tells which are there."""
IDENTITY = ("dataset", "space", "backbone", "objectives")
"""Parameters of the parent: what a study cannot change."""
SETTINGS = ("trials", "epochs", "memory_budget_mib", "sampler", "scheduler", "seed", "command")
"""Tags of the parent: what it was last run with. MLflow's parameters could not follow a resumed study."""
STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
"""MLflow's status of a trial that is in that state."""
ROWS_PER_CALL = 50
"""MLflow takes 1000 values in a call."""


@dataclass(frozen=True, kw_only=True)
class StudyLabels:
    """What names a study in MLflow, and describes its parent run."""

    name: str
    identity: Mapping[str, str]
    """`dataset` (the experiment's name), `space`, and what else the study cannot change."""
    settings: Mapping[str, Any]
    """Fields of StudyConfig, and `command`, a list."""
    artifacts: str | None
    """Where a new experiment keeps its artifacts; None: a server knows."""

    @property
    def parent_tags(self) -> dict[str, str]:
        """Returns all tags of the parent run."""
        settings = {key: self.settings[key] for key in SETTINGS if key in self.settings}
        if "command" in settings:
            settings["command"] = shlex.join(["python", *settings["command"]])
        texts = {key: str(value) for key, value in settings.items()}
        return {"study": self.name, "kind": "study", "space": self.identity["space"]} | texts


def artifacts_of(runs_dir: str, tracking_uri: str | None) -> str | None:
    """Returns a folder beside the default database, or None where `tracking_uri` names another place."""
    return None if tracking_uri else (Path(runs_dir).resolve() / ARTIFACTS).as_uri()


def metrics_of(row: Mapping[str, Any], time_ms: int) -> "list[Metric]":
    """Returns a row of metrics.jsonl as MLflow's, at its own `timestamp_ms` or else `time_ms`."""
    from mlflow.entities import Metric

    time_ms, step = int(row.get("timestamp_ms") or time_ms), int(row["epoch"])
    return [
        Metric(key, float(value), time_ms, step)
        for key, value in row.items()
        if (key in METRICS or key.startswith("lr."))
        and isinstance(value, (int, float))
        and math.isfinite(value)
    ]


class StudyRuns:
    """Finds the study's experiment and parent run, or makes them."""

    def __init__(self, client: "MlflowClient", labels: StudyLabels) -> None:
        self.client = client
        self.labels = labels
        self.experiment_id = self._experiment()
        found = self._search("study")
        self.parent_is_new = not found
        self.parent: Run = found[0] if found else self._new_parent()

    def children(self) -> "dict[str, list[Run]]":
        """Returns the trials' runs by the trials' names, of several the oldest first."""
        children: dict[str, list[Run]] = {}
        for run in self._search("trial"):
            children.setdefault(run.data.tags["trial"], []).append(run)
        return children

    def new_child(self, name: str, params: Mapping[str, Any], start_ms: int | None) -> str:
        """Makes a trial's run, without its parameters; returns its id."""
        tags = {
            "mlflow.parentRunId": self.parent.info.run_id,
            "study": self.labels.name,
            "kind": "trial",
            "trial": name,
            "space": self.labels.identity["space"],
            "state": "running",
            "on_front": "false",
        }
        if "method" in params:
            tags["method"] = str(params["method"])
        run = self.client.create_run(self.experiment_id, start_time=start_ms, tags=tags, run_name=name)
        return str(run.info.run_id)

    def recorded_epochs(self, run_id: str) -> set[int]:
        """Returns the epochs whose metrics a run has: an epoch's are written all or none."""
        return {metric.step for metric in self.client.get_metric_history(run_id, "epoch")}

    def log(
        self,
        run_id: str,
        params: Mapping[str, Any] | None = None,
        rows: Sequence[tuple[Mapping[str, Any], int]] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Writes parameters, rows of metrics (each with its time in ms) and tags, in one call if it can."""
        from mlflow.entities import Param, RunTag

        texts = [Param(key, _text(value)) for key, value in (params or {}).items()]
        labels = [RunTag(key, value) for key, value in (tags or {}).items()]
        for start in range(0, max(len(rows), 1), ROWS_PER_CALL):
            metrics = [m for row, ms in rows[start : start + ROWS_PER_CALL] for m in metrics_of(row, ms)]
            if metrics or texts or labels:
                self.client.log_batch(run_id, metrics=metrics, params=texts, tags=labels)
            texts, labels = [], []

    def end(self, run_id: str, status: str, end_ms: int | None) -> None:
        """Ends a run, at `end_ms` or now."""
        self.client.set_terminated(run_id, status, end_ms)

    def _search(self, kind: str) -> "list[Run]":
        where = f"tags.study = '{self.labels.name}' and tags.kind = '{kind}'"
        runs: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id],
                where,
                max_results=1000,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def _experiment(self) -> str:
        name = self.labels.identity["dataset"]
        found = self.client.get_experiment_by_name(name)
        if found is None:
            return str(self.client.create_experiment(name, artifact_location=self.labels.artifacts))
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _new_parent(self) -> "Run":
        labels = self.labels
        run = self.client.create_run(self.experiment_id, run_name=labels.name, tags=labels.parent_tags)
        self.log(run.info.run_id, {key: labels.identity[key] for key in IDENTITY if key in labels.identity})
        return run


def changed(wanted: Mapping[str, str], present: Mapping[str, str]) -> dict[str, str]:
    """Returns the tags that a run lacks or has otherwise."""
    return {key: value for key, value in wanted.items() if present.get(key) != value}


def _text(value: Any) -> str:
    """Returns a parameter as text: tuples as the lists that they are in a file."""
    return str(list(value) if isinstance(value, Iterable) and not isinstance(value, str) else value)
