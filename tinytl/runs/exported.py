"""The folder of an exported network, or of a finished model: its files, and reading it back."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tinytl.config.flat import flat_from_config
from tinytl.errors import ConfigError
from tinytl.networks.backbones.weights_file import load_tensors
from tinytl.runs.directory import read_config_file

MODEL_FILE = "model.onnx"
INT8_FILE = "model_int8.onnx"
"""The same in eight bits, if it was asked for."""
WEIGHTS_FILE = "weights.pt"
"""The state dict of an exported network, with the names of its run."""
SAFETENSORS_FILE = "weights.safetensors"
"""The same of a finished model."""
CONFIG_FILE = "config.yaml"
ABOUT_FILE = "model.json"
"""Classes, input and output, accuracy, memory, how the files were checked, versions, checksums."""
TRAINED_ON = "trained_on"
"""Key in that file: the splits whose images trained the network, if not the training images alone."""


def is_exported(folder: Path) -> bool:
    """Whether `folder` holds an exported network."""
    return (folder / ABOUT_FILE).is_file()


def weights_of(folder: Path) -> Path:
    """Returns the file of a folder's weights, in the form that it has."""
    finished = folder / SAFETENSORS_FILE
    return finished if finished.is_file() else folder / WEIGHTS_FILE


def read_exported(folder: Path, device: torch.device) -> dict[str, Any]:
    """Returns the content of a checkpoint of the run, its tensors on `device`.

    Raises:
        ConfigError: for a file that is missing or damaged.
    """
    path = weights_of(folder)
    if not path.is_file():
        raise ConfigError(f"{path}: no such file, though {ABOUT_FILE} is there: export the run again")
    config = read_config_file(folder / CONFIG_FILE)
    try:
        about = json.loads((folder / ABOUT_FILE).read_text())
        there = {name: one for name, one in about["sha256"].items() if (folder / name).is_file()}
        check_digests(folder, there, ABOUT_FILE)
        tensors = load_tensors(path, str(path))
        return {
            "net": {name: tensor.to(device) for name, tensor in tensors.items()},
            "config": flat_from_config(config),
            "classes": list(about["classes"]),
            "epoch": int(about["epoch"]),
            **({TRAINED_ON: list(about[TRAINED_ON])} if TRAINED_ON in about else {}),
            "input_mean": config.input_mean,
            "input_std": config.input_std,
        }
    except ConfigError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ConfigError(f"{folder / ABOUT_FILE} is damaged: export the run again") from None


def check_digests(folder: Path, digests: Mapping[str, str], said_by: str) -> None:
    """Compares files with their SHA-256, which the file `said_by` has.

    Raises:
        ConfigError: for a file that is missing or differs.
    """
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file():
            raise ConfigError(f"{path} is missing, though {said_by} names it: export again")
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise ConfigError(f"{path} is not what {said_by} says: it is damaged or changed; export again")
