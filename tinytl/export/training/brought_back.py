"""What a device trained, as a run: `evaluate`, `predict` and `export` take it."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tinytl.build import build_model
from tinytl.config.flat import flat_from_config
from tinytl.errors import ConfigError
from tinytl.export.folder import check_is_free
from tinytl.export.training.folder import MANIFEST_FILE, STATE_FILE
from tinytl.networks.backbones.weights_file import load_tensors
from tinytl.runs.checkpoint_file import save_checkpoint
from tinytl.runs.directory import RunDirectory, read_config_file
from tinytl.runs.exported import CONFIG_FILE, WEIGHTS_FILE, check_digests
from tinytl.runs.record import read_epochs

CHECKPOINT_FILE = "checkpoint.npz"
METRICS_FILE = "metrics.jsonl"


def bring_back(folder: Path, out: Path) -> dict[str, Any]:
    """Makes a run of a folder of `export --training`, with what its program trained; returns the checkpoint.

    Args:
        folder: as it comes from the device.
        out: the run's folder: empty or missing.

    Raises:
        ConfigError: for a file that is missing, damaged or of another export.
    """
    check_is_free(out)
    manifest, arrays = _manifest(folder), _trained(folder)
    if str(arrays.get("manifest", manifest["digest"])) != manifest["digest"]:
        raise ConfigError(f"{folder / CHECKPOINT_FILE} is of another export than {MANIFEST_FILE} beside it")
    config, begun = read_config_file(folder / CONFIG_FILE), int(manifest["trained"]["epoch"])
    net = build_model(dataclasses.replace(config, weights="none", lite_weights=None)).net
    net.load_state_dict(load_tensors(folder / WEIGHTS_FILE, str(folder / WEIGHTS_FILE)))
    parameters = {name: p for name, p in net.named_parameters() if p.requires_grad}
    for name, parameter in parameters.items():
        array = arrays.get(name)
        if array is None or array.shape != tuple(parameter.shape):
            raise ConfigError(f"{folder}: its trained state is not of its configuration: {name} differs")
        parameter.data.copy_(torch.from_numpy(array))
    state = {
        "net": net.state_dict(),
        "config": flat_from_config(config),
        "classes": [str(name) for name in arrays.get("classes", manifest["classes"])],
        "epoch": begun + int(arrays.get("epoch", 0)),
        "best_accuracy_top1": -1.0,
        "input_mean": config.input_mean,
        "input_std": config.input_std,
    }
    rows = _rows(folder, begun) or [{"epoch": state["epoch"]}]
    directory = RunDirectory(out)
    directory.make()
    directory.start(config, rows)
    save_checkpoint(state, directory.best)  # not the last: there is no optimiser to resume with
    return state


def _manifest(folder: Path) -> dict[str, Any]:
    """Returns `manifest.json`, with its own SHA-256 as `digest`; compares the files that an import reads."""
    path = folder / MANIFEST_FILE
    try:
        text = path.read_bytes()
        found: dict[str, Any] = json.loads(text)
        digests = dict(found["sha256_for_import"])
        _ = found["classes"], found["trained"]["epoch"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: no manifest of an `export --training` ({error})") from None
    check_digests(folder, digests, MANIFEST_FILE)
    return found | {"digest": hashlib.sha256(text).hexdigest()}


def _trained(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    path = folder / CHECKPOINT_FILE
    path = path if path.is_file() else folder / STATE_FILE
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except Exception as error:  # depends on where the file is damaged
        raise ConfigError(f"{path} is missing or damaged ({type(error).__name__})") from None


def _rows(folder: Path, begun: int) -> list[dict[str, Any]]:
    """Returns the device's epochs, after the `begun` ones of the export, without damaged lines."""
    path = folder / METRICS_FILE
    if not path.is_file():
        return []
    return [dict(row) | {"epoch": begun + row["epoch"]} for row in read_epochs(path).rows]
