"""The training runs behind a finished model: each in a folder of its own, resumed if it was cut off."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from tinytl.config.flat import flat_from_config
from tinytl.config.train_config import TrainConfig
from tinytl.data.splits import DataSplits, with_val_trained
from tinytl.plural import counted
from tinytl.runs.checkpoint_file import MAY_DIFFER
from tinytl.runs.directory import RunDirectory, with_whole_paths
from tinytl.runs.progress import progress_for_this_output
from tinytl.runs.record import read_epochs, read_run, seconds_per_epoch
from tinytl.runs.run import train_loaded
from tuner.record.trials import figures_of

FOLDER = "finish"
"""In the study's folder: the runs, a folder each."""


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run that has trained all its epochs."""

    folder: Path
    config: TrainConfig
    result: Mapping[str, Any]
    """What its `result.json` holds."""

    @property
    def epochs(self) -> int:
        """How many it trained."""
        return self.config.epochs

    @property
    def seconds_per_epoch(self) -> float | None:
        """The median of its epochs that computed all their features; None if none did."""
        return seconds_per_epoch(read_epochs(RunDirectory(self.folder).metrics_file).rows)

    @property
    def figures(self) -> dict[str, float]:
        """Its metrics on the validation images after the last epoch; none if it trained on those."""
        accuracy = self.result["val_accuracy_top1"]
        return {} if accuracy is None else figures_of({**self.result, "accuracy_top1": accuracy})


@dataclass(frozen=True, kw_only=True)
class Training:
    """What the runs of one configuration share."""

    folder: Path
    """Of the runs."""
    trial: str
    config: TrainConfig
    data: DataSplits
    """With test images or without: no run reads them."""
    report: Callable[[str], None]
    """Called with a line before each run."""

    def has_ended(self, epochs: int) -> bool:
        """Whether the run of so many epochs on training images has ended in an earlier call."""
        return self._directory(epochs, val_too=False).result_file.exists()

    def run(self, epochs: int, *, val_too: bool = False) -> FinishedRun:
        """Trains a schedule of `epochs`; continues a run that was cut off, and reads one that has ended.

        `val_too`: also on the validation images.

        Raises:
            ConfigError: if a checkpoint cannot be written, or another process trains the same run.
            NonFiniteLossError: if the loss diverges.
        """
        config = self._config(epochs)
        on = "training and validation images" if val_too else "training images"
        directory = self._directory(epochs, val_too=val_too)
        self.report(f"{counted(epochs, 'epoch')} on {on}: {directory.path}")
        if directory.result_file.exists():
            result = read_run(directory.path).result
            assert result is not None
            self.report("trained before")
            return FinishedRun(folder=directory.path, config=config, result=result)
        data = dataclasses.replace(self.data, test=None)
        if val_too:
            data = with_val_trained(data)
        progress = progress_for_this_output()
        result = train_loaded(config, data, None, directory.path, progress, resume=True)
        return FinishedRun(folder=directory.path, config=config, result=result)

    def _config(self, epochs: int) -> TrainConfig:
        return with_whole_paths(dataclasses.replace(self.config, epochs=epochs, loader_workers=None))

    def _directory(self, epochs: int, *, val_too: bool) -> RunDirectory:
        """Returns the folder of a run: of another configuration or other images it is another one."""
        config = self._config(epochs)
        decisive = {k: v for k, v in flat_from_config(config).items() if k not in MAY_DIFFER}
        decisive["images"] = self.data.digest  # a copy of a bucket may have runs of a deleted study's images
        digest = blake2b(json.dumps(decisive, sort_keys=True).encode(), digest_size=4).hexdigest()
        return RunDirectory(self.folder / f"{self.trial}-{epochs}{'-val' if val_too else ''}-{digest}")
