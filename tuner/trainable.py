"""One trial as Ray sees it: a step is an epoch, an actor is reused for trial after trial."""

from pathlib import Path
from typing import Any

import torch
from ray import tune

from tinytl.config import TrainConfig
from tinytl.data import DataSplits
from tinytl.errors import NonFiniteLossError
from tinytl.trainer import Trainer
from tuner.trial_config import trial_config

CHECKPOINT_FILE = "trainer.pt"


class TinyTLTrainable(tune.Trainable):
    """Trains the configuration that `MemoryAwareSearch` suggested.

    Results carry the epoch's metrics, the predicted `peak_memory_mib`, and `finished` once all epochs are
    done. A loss that is not finite ends the trial with `failure`, the reason, in place of an exception: a
    retry would diverge again, and the actor can go on with another trial.
    """

    def setup(self, config: dict[str, Any], data: DataSplits, base: TrainConfig) -> None:
        """Builds the trial; `data` comes from Ray's object store, its arrays are shared by all workers."""
        # One thread a trial: on a CPU there are as many trials as cores, and results do not depend on load.
        torch.set_num_threads(1)
        self.data = data
        self.base = base
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
        try:
            metrics = self.trainer.train_epoch()
        except NonFiniteLossError as error:
            return {"done": True, "failure": str(error), "peak_memory_mib": self.peak_memory_mib}
        finished = metrics.epoch >= self.trainer.config.epochs
        return metrics.flat() | {
            "peak_memory_mib": self.peak_memory_mib,
            "finished": finished,
            "done": finished,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Writes the trainer's state."""
        torch.save(self.trainer.state_dict(), Path(checkpoint_dir) / CHECKPOINT_FILE)

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Goes on where the state was written."""
        path = Path(checkpoint_dir) / CHECKPOINT_FILE
        self.trainer.load_state_dict(torch.load(path, map_location=self.trainer.device, weights_only=True))

    def _start(self, config: dict[str, Any]) -> None:
        self.peak_memory_mib = config["peak_memory_mib"]
        self.trainer = Trainer(trial_config(self.base, config["values"]), self.data)
