"""MLflow's view of a study: a parent run, and a child run for each trial. Records in a thread of its own."""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient
from ray.tune import Callback
from ray.tune.experiment import Trial

from tinytl.errors import ConfigError
from tinytl.flat_config import flat_from_config
from tuner.prepare import PreparedStudy
from tuner.trial_config import trial_config

METRICS = (
    "accuracy_top1",
    "train_accuracy_top1",
    "loss",
    "val_loss",
    "peak_memory_mib",
    "measured_peak_mib",
    "epoch_time_s",
)
"""What is recorded each epoch, beside `lr.GROUP` of every parameter group."""

logger = logging.getLogger(__name__)


class StudyTracking(Callback):
    """Records a study as it runs. Ray calls it in the driver; MLflow is spoken to by a thread of its own.

    Raises:
        ConfigError: at the start, where MLflow does not answer.
    """

    def __init__(self, prepared: PreparedStudy) -> None:
        super().__init__()
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self.prepared = prepared
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        try:
            mlflow.set_tracking_uri(prepared.config.resolved_tracking_uri)
            self.client = MlflowClient(prepared.config.resolved_tracking_uri)
            self.experiment_id = self._experiment()
            self.parent_id = self._parent()
            self._runs = self._children()
        except Exception as error:  # each store raises its own kinds
            reason = str(error).strip().splitlines()[0]
            uri = prepared.config.resolved_tracking_uri
            raise ConfigError(f"--tracking-uri {uri}: MLflow does not answer ({reason})") from None
        self._thread = threading.Thread(target=self._record, name="mlflow", daemon=True)
        self._thread.start()

    def __getstate__(self) -> dict[str, Any]:
        """Ray pickles its callbacks beside its own state, which a study never goes back to."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Makes the trial's run; a trial that goes on after a crash keeps the one it has."""
        suggestion = dict(trial.config)
        self._queue.put(lambda: self._start_child(suggestion))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Records an epoch in one call."""
        name, result = trial.config["name"], dict(result)
        self._queue.put(lambda: self._log_epoch(name, result))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Ends the trial's run, failed where the loss diverged."""
        result = trial.last_result or {}
        name, failure = trial.config["name"], result.get("failure")
        if failure or result.get("finished"):
            self._queue.put(lambda: self._end(name, "failed" if failure else "complete", failure))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Ends the run of a trial whose process died, maybe before it had one."""
        name, suggestion = trial.config["name"], dict(trial.config)
        self._queue.put(lambda: self._start_child(suggestion))
        self._queue.put(lambda: self._end(name, "failed", "the trial's process died"))

    def close(self, interrupted: bool, on_front: list[str]) -> None:
        """Waits until all is recorded, marks the front's runs, and ends the parent run."""
        self._queue.put(None)
        self._thread.join()
        for name, run_id in self._runs.items():
            self.client.set_tag(run_id, "on_front", str(name in on_front).lower())
        self._kill_running("interrupted")
        self.client.set_terminated(self.parent_id, "KILLED" if interrupted else "FINISHED")

    def _record(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                job()
            except Exception as error:  # recording must never stop the training that it records
                logger.warning("MLflow: %s", str(error).strip().splitlines()[0])

    def _experiment(self) -> str:
        name, folder = self.prepared.data.name, self.prepared.folder.parent
        found = self.client.get_experiment_by_name(name)
        if found:
            return str(found.experiment_id)
        # Beside the database; a server knows its own place for artifacts.
        local = None if self.prepared.config.tracking_uri else (folder / "mlartifacts").as_uri()
        return str(self.client.create_experiment(name, artifact_location=local))

    def _parent(self) -> str:
        prepared = self.prepared
        found = self.client.search_runs([self.experiment_id], self._where("study"), max_results=1)
        if found:
            run_id = str(found[0].info.run_id)
            self.client.update_run(run_id, status="RUNNING")
            self._kill_running("interrupted")
            return run_id
        tags = {"study": prepared.name, "kind": "study", "space": prepared.space.name}
        run = self.client.create_run(self.experiment_id, run_name=prepared.name, tags=tags)
        params = {
            "trials": prepared.config.trials,
            "epochs": prepared.base.epochs,
            "backbone": prepared.base.backbone,
            "memory_budget_mib": prepared.config.memory_budget_mib,
            "sampler": prepared.config.sampler,
            "seed": prepared.config.seed,
        }
        self.client.log_batch(run.info.run_id, params=[Param(k, str(v)) for k, v in params.items()])
        return str(run.info.run_id)

    def _where(self, kind: str) -> str:
        """Returns MLflow's filter for the study's runs of a kind: `study` (the parent) or `trial`."""
        return f"tags.study = '{self.prepared.name}' and tags.kind = '{kind}'"

    def _children(self) -> dict[str, str]:
        where = self._where("trial")
        runs: list[Any] = []
        token = None
        while True:
            page = self.client.search_runs([self.experiment_id], where, max_results=1000, page_token=token)
            runs += page
            token = page.token
            if not token:
                return {run.data.tags["trial"]: run.info.run_id for run in runs}

    def _kill_running(self, state: str) -> None:
        """Ends children that a killed driver or an interrupt left RUNNING."""
        where = self._where("trial") + " and status = 'RUNNING'"
        for run in self.client.search_runs([self.experiment_id], where, max_results=1000):
            self.client.set_tag(run.info.run_id, "state", state)
            self.client.set_terminated(run.info.run_id, "KILLED")

    def _start_child(self, suggestion: Mapping[str, Any]) -> None:
        name = suggestion["name"]
        if name in self._runs:
            self.client.update_run(self._runs[name], status="RUNNING")
            self.client.set_tag(self._runs[name], "state", "running")
            return
        tags = {
            "mlflow.parentRunId": self.parent_id,
            "study": self.prepared.name,
            "kind": "trial",
            "trial": name,
            "space": self.prepared.space.name,
            "state": "running",
        }
        run = self.client.create_run(self.experiment_id, run_name=name, tags=tags)
        self._runs[name] = run.info.run_id
        config = trial_config(self.prepared.base, suggestion["values"])
        params = [Param(key, str(value)) for key, value in flat_from_config(config).items()]
        self.client.log_batch(run.info.run_id, params=params)

    def _log_epoch(self, name: str, result: Mapping[str, Any]) -> None:
        now = int(time.time() * 1000)
        step = int(result.get("epoch", 0))
        metrics = [
            Metric(key, float(value), now, step)
            for key, value in result.items()
            if (key in METRICS or key.startswith("lr."))
            and isinstance(value, (int, float))
            and math.isfinite(value)
        ]
        self.client.log_batch(self._runs[name], metrics=metrics)

    def _end(self, name: str, state: str, failure: str | None) -> None:
        tags = [RunTag("state", state)] + ([RunTag("failure", failure)] if failure else [])
        self.client.log_batch(self._runs[name], tags=tags)
        self.client.set_terminated(self._runs[name], "FAILED" if state == "failed" else "FINISHED")
