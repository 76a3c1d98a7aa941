"""A trained network from its run's folder, to evaluate it or to label pictures."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tinytl.build import build_model
from tinytl.config.flat import config_from_flat
from tinytl.config.train_config import TrainConfig
from tinytl.data.batches import eval_batches
from tinytl.data.sets.listing import stored_side
from tinytl.data.splits import ImageFiles
from tinytl.device import resolve_device
from tinytl.errors import ConfigError
from tinytl.library_pages import release_library_pages
from tinytl.runs.checkpoint_file import read_checkpoint
from tinytl.runs.directory import RunDirectory
from tinytl.runs.exported import TRAINED_ON, is_exported, read_exported, weights_of
from tinytl.training.mixed_precision import MixedPrecision
from tinytl.training.step import InputNormalizer


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with the weights of one of its run's checkpoints, in evaluation mode."""

    net: nn.Module
    config: TrainConfig
    classes: tuple[str, ...]
    epoch: int
    """Epochs trained."""
    path: Path
    """The checkpoint."""
    normalize: InputNormalizer
    precision: MixedPrecision
    trained_on: tuple[str, ...] = ("train",)
    """The splits whose images trained it."""

    @torch.no_grad()
    def probabilities(self, files: Sequence[Path]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        """Returns `(N, classes)`: the probability of each class for each picture.

        Pictures are prepared like validation images: their central square, resized.

        Raises:
            ConfigError: naming a file that does not decode.
        """
        names = np.array([os.fsencode(file.resolve()) for file in files])
        pictures = ImageFiles("/", names, np.zeros(len(files), np.int64), stored_side(self.config.resolution))
        rows = []
        for batch, _ in eval_batches(
            pictures, batch_size=1, resolution=self.config.resolution, device=self.precision.device, workers=0
        ):
            with self.precision.autocast():
                logits = self.net(self.normalize(batch))
            rows.append(logits.double().softmax(1)[0].cpu().numpy())
        return np.stack(rows)


def load_trained(run: Path, epoch: str | None = None, device: str = "auto") -> TrainedNetwork:
    """Returns the network of a run's folder, of a checkpoint file, or of a folder of `tinytl export`.

    Args:
        run: a folder that `python -m tinytl train` made, one of its checkpoint files, or an exported network.
        epoch: `best` (by validation accuracy) or `last`; for a run's folder only. Default: the best, or the
            last of a trial of a study, which keeps no other.
        device: `cpu`, `cuda` or `auto`.

    Raises:
        ConfigError: if there is no checkpoint, or it is damaged.
    """
    release_library_pages()
    where = resolve_device(device)
    if is_exported(run):
        path, state = weights_of(run), read_exported(run, where)
    else:
        path = _checkpoint_of(run, epoch)
        state = read_checkpoint(path, where)
    saved = config_from_flat(state["config"])
    config = dataclasses.replace(
        saved,
        device=device,
        input_mean=tuple(state["input_mean"]),
        input_std=tuple(state["input_std"]),
    )
    net = build_model(dataclasses.replace(config, weights="none", lite_weights=None)).net.to(where)
    net.load_state_dict(state["net"])
    return TrainedNetwork(
        net.eval(),
        config,
        tuple(state["classes"]),
        state["epoch"],
        path,
        InputNormalizer(config, where),
        MixedPrecision(config.precision, where),
        _trained_on(state),
    )


def _trained_on(state: Mapping[str, Any]) -> tuple[str, ...]:
    if TRAINED_ON in state:
        return tuple(state[TRAINED_ON])
    return ("train", "val") if state.get("sizes", {}).get("val") == 0 else ("train",)


def _checkpoint_of(run: Path, epoch: str | None) -> Path:
    if not run.is_dir():
        return run
    directory = RunDirectory(run)
    path = directory.last if epoch == "last" else directory.best
    if not path.exists() and directory.last.exists():
        if epoch is not None:
            raise ConfigError(
                f"{run} has no {path.name}, as the trials of a study have none: add --epoch last"
            )
        return directory.last
    if not path.exists():
        raise ConfigError(f"{run} has no {path.name}: is it a run, and has its first epoch ended?")
    return path
