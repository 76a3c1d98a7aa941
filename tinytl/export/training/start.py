"""Where training on a device begins: a run's checkpoint, a finished model, or a configuration."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tinytl.build import build_model
from tinytl.config.flat import config_from_flat
from tinytl.config.train_config import TrainConfig
from tinytl.data.load import DataSplits, load_dataset
from tinytl.errors import ConfigError
from tinytl.runs.checkpoint_file import read_checkpoint
from tinytl.runs.directory import RunDirectory, read_config_file, with_whole_paths
from tinytl.runs.exported import is_exported, read_exported, weights_of
from tinytl.runs.planned_config import planned_config
from tinytl.training.int8_adam import is_coded
from tinytl.training.step import build_optimizer

CPU = torch.device("cpu")
AUGMENTATION = {"crop_scale_min": 0.7, "flip": True}
"""Of pictures in folders, if a configuration leaves it to the data set and that cannot be read."""
_MOMENTS = {"exp_avg": "first", "exp_avg_sq": "second", "momentum_buffer": "first"}


class Start(NamedTuple):
    """A network as it begins to train on a device."""

    config: TrainConfig
    """With its choices made, and the normalisation that its weights expect."""
    classes: tuple[str, ...]
    state: Mapping[str, Tensor]
    """The network's state dict."""
    optimizer: Mapping[str, Any] | None
    """The optimiser's state dict; None if it has taken no step."""
    epoch: int
    data: DataSplits | None
    """The data set, if it is here and has these classes."""
    source: str


def start_of(source: Path, epoch: str | None) -> Start:
    """Returns what a run's folder, a checkpoint, a finished model, or a file such as `config.yaml` says.

    Args:
        source: that folder or file. A finished model or an exported network has no optimiser's moments.
        epoch: `best` or `last`, of a run. Default: the last, which has the optimiser's moments.

    Raises:
        ConfigError: if there is no checkpoint, or it is damaged; of a configuration also if its data or
            weights cannot be read.
    """
    if not source.exists():
        raise ConfigError(f"{source}: no such file: name a run's folder, a checkpoint or a config.yaml")
    if source.is_file() and source.suffix in (".yaml", ".yml"):
        if epoch is not None:
            raise ConfigError(f"--epoch {epoch} is for a run: {source} is a configuration")
        return _of_configuration(with_whole_paths(read_config_file(source)), source)
    if is_exported(source):
        path, state = weights_of(source), read_exported(source, CPU)
    else:
        path = _checkpoint_of(source, epoch)
        state = read_checkpoint(path, CPU)
    config = dataclasses.replace(
        config_from_flat(state["config"]),
        input_mean=tuple(state["input_mean"]),
        input_std=tuple(state["input_std"]),
    )
    classes = tuple(state["classes"])
    data = _data_or_none(config, classes)
    return Start(config, classes, state["net"], state.get("optimizer"), state["epoch"], data, str(path))


def _checkpoint_of(source: Path, epoch: str | None) -> Path:
    if not source.is_dir():
        return source
    directory = RunDirectory(source)
    path = directory.best if epoch == "best" else directory.last
    if epoch is None and not path.exists():  # what a device trained has the best alone
        path = directory.best
    if not path.exists():
        raise ConfigError(
            f"{source} has no {path.name}: export --training needs a run whose first epoch has ended, or "
            "a configuration: name its config.yaml"
        )
    return path


def _of_configuration(config: TrainConfig, source: Path) -> Start:
    data = load_dataset(_streamed(config))
    config = planned_config(dataclasses.replace(config, device="cpu"), data)
    torch.manual_seed(config.seed)
    built = build_model(config)
    normalization = built.normalization
    config = dataclasses.replace(config, input_mean=normalization.mean, input_std=normalization.std)
    return Start(config, data.classes, built.net.state_dict(), None, 0, data, str(source))


def _data_or_none(config: TrainConfig, classes: tuple[str, ...]) -> DataSplits | None:
    """Returns the data set that the network knows, if it is here and still has its classes."""
    try:
        data = load_dataset(_streamed(config))
    except (ConfigError, OSError):
        return None
    return data if data.classes == classes else None


def _streamed(config: TrainConfig) -> TrainConfig:
    """Returns a configuration under which files are listed, not decoded, if its data set is one of files."""
    return dataclasses.replace(config, loading="stream" if config.dataset == "imagefolder" else "auto")


def augmentation(start: Start) -> dict[str, Any]:
    """Returns the crops of training: the configuration's, else the data set's, else those of folders."""
    default = AUGMENTATION
    if start.data is not None:
        default = {"crop_scale_min": start.data.crop_scale_min, "flip": start.data.flip}
    given = {name: getattr(start.config, name) for name in default}
    return {name: default[name] if value is None else value for name, value in given.items()}


def training_state(net: nn.Module, start: Start) -> dict[str, Tensor]:
    """Returns what trains by its name, its moments as `first:NAME` and `second:NAME` (SGD has no second), the
    number of steps that they average, and 0 epochs: those of the device count from here. Moments are zeros if
    there are none yet, or those in 8 bits.

    Args:
        net: of the start's configuration and state, in 32 bits.
        start: where training begins.
    """
    parameters = {name: p for name, p in net.named_parameters() if p.requires_grad}
    begun = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    for place in ("first",) if start.config.optimizer == "sgd" else ("first", "second"):
        begun |= {f"{place}:{name}": torch.zeros_like(p) for name, p in parameters.items()}
    begun |= {"epoch": torch.tensor(0), "step": torch.tensor(0)}
    if start.optimizer is None:
        return begun
    found, optimizer = dict(begun), build_optimizer(net, start.config)
    optimizer.load_state_dict(dict(start.optimizer))
    for name, parameter in parameters.items():
        moments = optimizer.state.get(parameter, {})
        if is_coded(moments):
            return begun
        for key, place in _MOMENTS.items():
            if isinstance(moments.get(key), Tensor):
                found[f"{place}:{name}"] = moments[key].detach().clone()
        found["step"] = torch.as_tensor(moments.get("step", 0)).to(torch.int64)
    return found
