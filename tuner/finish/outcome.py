"""What a finished model is and where it comes from: the facts of its card, its `model.json` and MLflow."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tinytl.config.names import METRICS
from tinytl.config.plan import PLANNED_FIELDS
from tinytl.config.train_config import TrainConfig
from tinytl.data.splits import DataSplits
from tinytl.runs.checkpoint_file import split_sizes
from tinytl.training.judgements import Judgements
from tuner.findings.best import Best
from tuner.finish.training import FinishedRun
from tuner.record import schema

PLAN = "plan"
"""Key in `model.json`: the execution plan that was chosen."""


def plan_of(config: TrainConfig) -> dict[str, Any]:
    """Returns the fields of a configuration that say how it runs, not what it learns."""
    return {name: getattr(config, name) for name in PLANNED_FIELDS}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A trained network, and what is known about it."""

    best: Best
    """The pair of configuration and plan that was chosen."""
    named: bool
    """Whether a person named the trial, and it is not the best."""
    data: DataSplits
    """The data set, as the study split it."""
    tried: Mapping[int, float | None]
    """The study's metric on the validation images by length, in epochs; None: the loss diverged."""
    on_train: FinishedRun | None
    """The run on training images alone whose length was kept; None: the length was given, and it trained on
    validation images at once.
    """
    run: FinishedRun
    """The run of the model."""
    val_too: bool
    """Whether the model trained on the validation images, too."""
    test: Judgements | None
    """What it says of the test images; None: there are none."""
    process_mib: float
    """Peak resident size of the process that made it, in MiB."""
    command: str
    """The command that made it."""

    def to_json(self) -> dict[str, Any]:
        """Returns what `model.json` says beside the network and its files."""
        result, trial = self.run.result, self.best.trial
        val = {f"val_{name}": None if self.on_train is None else self._val(name) for name in METRICS}
        test = {f"test_{name}": getattr(self.test, name, None) for name in METRICS}
        if self.test is not None:
            test |= {f"test_{name}_standard_error": self.test.standard_error(name) for name in METRICS}
        return {
            "study": self.best.study.name,
            schema.STUDY_ID: self.best.study.attributes.get(schema.STUDY_ID),
            "trial": trial.name,
            "metric": trial.metric,
            "run": self.run.folder.name,
            PLAN: plan_of(self.best.config),
            "epochs_tried": {str(epochs): score for epochs, score in self.tried.items()},
            **val,
            **test,
            "training_peak_memory_mib": result["predicted_peak_mib"],
            "measured_peak_memory_mib": result["measured_peak_mib"],
            "process_peak_mib": self.process_mib,
            "images": {"name": self.data.name, "digest": self.data.digest, **split_sizes(self.data)},
            "command": self.command,
        }

    def _val(self, name: str) -> float | None:
        assert self.on_train is not None
        return self.on_train.figures.get(name)
