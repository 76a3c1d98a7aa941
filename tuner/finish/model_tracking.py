"""A finished model written to its study's MLflow, if that is there."""

from collections.abc import Callable

from tinytl.errors import ConfigError
from tuner.bucket.database import mlflow_at_hand, send_mlflow
from tuner.config import StudyConfig
from tuner.finish.wish import Wish
from tuner.record.reading import StudyReading
from tuner.tracking.model_run import (
    FinishedModel,
    check_registry,
    is_logged,
    log_finished,
    open_runs,
    register,
    serve_command,
)
from tuner.tracking.runs import StudyRuns

Report = Callable[[str], None]
"""Called with a line for the user."""


class ModelTracking:
    """A study's runs in MLflow, or none. Only if a model is to be registered, MLflow must answer."""

    def __init__(self, study: StudyReading, wish: Wish, report: Report) -> None:
        self.study, self.name, self.report = study, wish.register, report
        given = wish.tracking_uri or study.settings.get("tracking_uri")
        config = StudyConfig(runs_dir=study.runs_dir, tracking_uri=given)
        self.uri = config.resolved_tracking_uri
        self.runs: StudyRuns | None = None
        if not config.tracks:
            if self.name is not None:
                why = f"study {study.name} was begun without MLflow: add --tracking-uri"
                if wish.tracking_uri is not None:
                    why = f"--tracking-uri {given} has no registry of models: name a server or database"
                raise ConfigError(f"--register {self.name}: {why}")
            return
        try:
            mlflow_at_hand(study.runs_dir)
            send_mlflow(study.runs_dir)  # what a call that was cut off wrote
            self.runs = open_runs(study, self.uri)
            if self.name is not None:
                check_registry(self.runs, self.uri, self.name)
        except ConfigError as error:
            if self.name is not None:
                raise ConfigError(f"--register {self.name}: {error}") from None
            report(f"the model will not be in MLflow: {error}")

    def lacks(self, model: FinishedModel) -> bool:
        """Whether MLflow is there and does not have a model."""
        return self.runs is not None and not is_logged(self.runs, model)

    def add(self, model: FinishedModel) -> None:
        """Logs a model, and registers it if that was asked for.

        Raises:
            ConfigError: if it is to be registered, and MLflow does not answer.
        """
        if self.runs is None:
            return
        try:
            mlflow_at_hand(self.study.runs_dir)  # other studies may have ended while the model was trained
            self.runs = open_runs(self.study, self.uri)
            self._log(self.runs, model)
        except ConfigError as error:
            if self.name is not None:
                raise
            self.report(f"the model is not in MLflow: {error}; once it answers, the same command adds it")

    def _log(self, runs: StudyRuns, model: FinishedModel) -> None:
        model_id = log_finished(runs, self.uri, model)
        self.report(f"MLflow has it as models:/{model_id}: {serve_command(self.uri, model_id)}")
        if self.name is not None:
            description = model.card.partition("\n\n")[2].partition("\n\n")[0]
            version = register(runs, self.uri, model_id, self.name, description)
            self.report(f"registered: models:/{self.name}/{version}")
        send_mlflow(self.study.runs_dir)
