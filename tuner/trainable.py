"""One trial as Ray sees it: a step is an epoch, an actor is reused for trial after trial."""

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ray import tune

from tinytl.backbones.weights import Weights
from tinytl.checkpoint_file import save_checkpoint
from tinytl.config import TrainConfig
from tinytl.data import DataSplits
from tinytl.errors import NonFiniteLossError
from tinytl.trainer import Trainer
from tuner.trial_config import trial_config

CHECKPOINT_FILE = "trainer.pt"


class TinyTLTrainable(tune.Trainable):
    """Trains the configuration that `MemoryAwareSearch` suggested.

    Results carry the epoch's metrics, the predicted `peak_memory_mib`, and `finished` once all epochs are
    done. What goes wrong inside ends the trial with `failure`, the reason, in place of an exception: a retry
    would go wrong again, and the process can go on with another trial. Only a process that dies is retried.
    """

    def setup(
        self,
        config: dict[str, Any],
        data: DataSplits,
        base: TrainConfig,
        weights: Mapping[str, Weights],
    ) -> None:
        """Builds the trial; the rest comes from Ray's object store, where all workers of a node share it."""
        # One thread a trial: on a CPU there are as many trials as cores, and results do not depend on load.
        torch.set_num_threads(1)
        self.data = data
        self.base = base
        self.weights = weights
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Starts another trial in the same process."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        self._start(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Trains one epoch."""
        if self.trainer is not None:
            try:
                metrics = self.trainer.train_epoch()
                finished = metrics.epoch >= self.trainer.config.epochs
                return metrics.flat() | {
                    "peak_memory_mib": self.peak_memory_mib,
                    "finished": finished,
                    "done": finished,
                }
            except NonFiniteLossError as error:
                self.failure = str(error)
            except Exception as error:  # any reason is the trial's, and told
                self.failure = self._explain(error)
        return {"done": True, "failure": self.failure, "peak_memory_mib": self.peak_memory_mib}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Writes the trainer's state; a file of that name is always whole."""
        if self.trainer is not None:
            save_checkpoint(self.trainer.state_dict(), Path(checkpoint_dir) / CHECKPOINT_FILE)

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Goes on where the state was written."""
        path = Path(checkpoint_dir) / CHECKPOINT_FILE
        if self.trainer is not None and path.is_file():
            state = torch.load(path, map_location=self.trainer.device, weights_only=True)
            self.trainer.load_state_dict(state)

    def _start(self, config: dict[str, Any]) -> None:
        self.peak_memory_mib = config["peak_memory_mib"]
        self.failure = ""
        self.trainer: Trainer | None = None
        try:
            own = trial_config(self.base, config["values"])
            self.trainer = Trainer(own, self.data, self.weights[own.backbone])
            if config["checkpoint"] is not None:
                self.load_checkpoint(config["checkpoint"])
        except Exception as error:  # told by the first step: Ray would retry the process
            self.trainer = None
            self.failure = self._explain(error)

    def _explain(self, error: Exception) -> str:
        """Writes the traceback to the trial's folder and returns one line."""
        Path(self.logdir, "error.txt").write_text(traceback.format_exc())
        lines = str(error).strip().splitlines()
        return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
