"""A trained run as a folder for a device: ONNX, weights, and what a user must know to use them."""

import dataclasses
import hashlib
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tinytl.config.names import METRICS
from tinytl.config.train_config import TrainConfig
from tinytl.data.batches import eval_batches
from tinytl.data.load import check_data_dir, load_dataset
from tinytl.data.splits import DataSplits, Split
from tinytl.errors import ConfigError
from tinytl.export.int8 import INT8, images_for_int8, int8_onnx
from tinytl.export.int8 import shown as int8_lines
from tinytl.export.metadata import INPUT, OUTPUT, metadata_of
from tinytl.export.onnx_file import (
    OPSET,
    PACKAGES,
    check_packages,
    device_network,
    largest_difference,
    onnx_bytes,
)
from tinytl.files import new_name_beside
from tinytl.runs.directory import RunDirectory, config_text, environment
from tinytl.runs.exported import ABOUT_FILE, CONFIG_FILE, INT8_FILE, MODEL_FILE, WEIGHTS_FILE
from tinytl.runs.record import read_run
from tinytl.runs.trained import TrainedNetwork, load_trained

TOLERANCE = 1e-3
"""Largest difference of a logit between onnxruntime and PyTorch, in units of the largest logit or of 1."""
CHECKED_BATCHES = (1, 3, 4)
"""Images per compared batch."""
PREPARATION = (
    "the picture's central square, resized to the input's height and width (bilinear, antialiased), "
    "RGB, divided by 255"
)


def export_run(
    run: Path,
    out: Path,
    *,
    epoch: str | None = None,
    known: Mapping[str, Any] | None = None,
    data_dir: str | None = None,
    int8_drop: float | None = None,
) -> dict[str, Any]:
    """Writes the network of `run` to the folder `out`, and returns the content of its `model.json`.

    The ONNX file is compared with PyTorch first, on validation images if they can be read, else on noise.
    The folder is written whole or not at all.

    Args:
        run: as for `load_trained`.
        out: a folder that is empty or missing.
        epoch: `best` or `last`, as for `load_trained`.
        known: facts about the network from outside its run's folder; they override the folder's.
        data_dir: folder of the run's images; default: where they were.
        int8_drop: asks for a second ONNX file, in eight bits: by how much the metric of the run may fall then
            on validation images, a fraction.

    Raises:
        ConfigError: if a package is missing, `out` cannot be written, there is no whole checkpoint, or the
            ONNX file's output differs from PyTorch's; with `int8_drop`, if the run's images are not there, or
            eight bits cost too much accuracy.
    """
    check_packages()
    check_is_free(out)
    trained = load_trained(run, epoch, "cpu")
    # The device of training is no property of the network.
    config = dataclasses.replace(trained.config, device="auto")
    with_images = _with_images(config, data_dir)
    data = None if int8_drop is None else images_for_int8(with_images, trained)
    to_check = _images_to_check(with_images) if data is None else _of_val(data, config.resolution)
    onnx = checked_onnx(trained, *to_check)
    small = None
    if int8_drop is not None and data is not None:
        small = int8_onnx(trained, onnx.model, data, int8_drop)
    files = {
        MODEL_FILE: onnx.model,
        **({} if small is None else {INT8_FILE: small.model}),
        WEIGHTS_FILE: weights_bytes(trained.net.state_dict()),
        CONFIG_FILE: config_text(config).encode(),
    }
    about = {
        **of_the_network(trained),
        **_of_the_run(trained),
        **(known or {}),
        **onnx.about,
        **({} if small is None else {INT8: small.about}),
        "environment": environment() | {name: version(name) for name in PACKAGES},
        "sha256": digests_of(files),
    }
    write_folder(out, files | {ABOUT_FILE: (json.dumps(about, indent=2) + "\n").encode()})
    return about


class CheckedOnnx(NamedTuple):
    """An ONNX file whose output was compared with PyTorch's, and what `model.json` says about it."""

    model: bytes
    about: Mapping[str, Any]


def checked_onnx(trained: TrainedNetwork, images: Tensor, source: str) -> CheckedOnnx:
    """Returns a network as ONNX.

    Args:
        trained: the network, on the CPU.
        images: `(N, 3, R, R)` uint8 to compare on, as many as `CHECKED_BATCHES` need.
        source: their description.

    Raises:
        ConfigError: if its output differs from PyTorch's.
    """
    model = onnx_bytes(device_network(trained), trained.config.resolution, metadata_of(trained))
    difference = largest_difference(trained, model, images, CHECKED_BATCHES)
    if not difference <= TOLERANCE:  # NaN is not agreement either
        raise ConfigError(
            f"{trained.path}: onnxruntime differs from PyTorch by {difference:.1e}, more than {TOLERANCE:g}: "
            f"no ONNX file is written; other versions of {', '.join(PACKAGES)} may agree"
        )
    check = {
        "images": source,
        "batches": list(CHECKED_BATCHES),
        "largest_difference": difference,
        "tolerance": TOLERANCE,
    }
    return CheckedOnnx(model, {"check": check, "opset": OPSET})


def digests_of(files: Mapping[str, bytes]) -> dict[str, str]:
    """Returns the SHA-256 of each file, which reading the folder compares."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def check_is_free(out: Path) -> None:
    """Raises ConfigError if `out` is not empty, or cannot be created."""
    if out.is_file():
        raise ConfigError(f"--out {out} is a file: choose a folder")
    if out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"--out {out} is not empty: choose another folder, or remove it")
    nearest = next(parent for parent in out.resolve().parents if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ConfigError(f"--out {out}: {nearest} is not a folder that can be written to")


def _images_to_check(config: TrainConfig) -> tuple[Tensor, str]:
    """Returns `(N, 3, R, R)` uint8, and their description."""
    count, side = sum(CHECKED_BATCHES), config.resolution
    for loading in ("stream", "auto"):  # files need not all be decoded; a set of arrays does not stream
        try:
            return _of_val(load_dataset(dataclasses.replace(config, loading=loading)), side)
        except (ConfigError, OSError):
            continue
    seeded = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=seeded)
    return noise, f"{count} images of noise (the data set is not here)"


def _with_images(config: TrainConfig, data_dir: str | None) -> TrainConfig:
    """Returns a configuration whose images are in `data_dir`, if that is given."""
    if data_dir is None:
        return config
    # The run's list of excluded pictures names files of the run's own folder.
    moved = dataclasses.replace(config, data_dir=data_dir, exclude=None)
    check_data_dir(moved)
    return moved


def _of_val(data: DataSplits, side: int) -> tuple[Tensor, str]:
    """Returns some validation images, `(N, 3, R, R)` uint8, and their description."""
    return some_images(data.val, side), f"{sum(CHECKED_BATCHES)} validation images of {data.name}"


def some_images(images: Split, side: int) -> Tensor:
    """Returns as many images as `CHECKED_BATCHES` need, `(N, 3, R, R)` uint8, spread over a split."""
    count = sum(CHECKED_BATCHES)
    chosen = np.linspace(0, len(images) - 1, count).astype(np.int64)
    batches = eval_batches(images.take(chosen), batch_size=count, resolution=side, workers=0)
    return next(batches)[0]


def weights_bytes(state: Mapping[str, Tensor]) -> bytes:
    """Returns a state dict as the content of a file that `torch.load` reads."""
    buffer = io.BytesIO()
    torch.save({name: tensor.contiguous() for name, tensor in state.items()}, buffer)
    return buffer.getvalue()


def of_the_network(trained: TrainedNetwork) -> dict[str, Any]:
    """Returns what `model.json` says of a network: classes, input, output."""
    config = trained.config
    return {
        "classes": list(trained.classes),
        "backbone": config.backbone,
        "method": config.method,
        "epoch": trained.epoch,
        "epochs": config.epochs,
        "input": {
            "name": INPUT,
            "shape": ["batch", 3, config.resolution, config.resolution],
            "type": "float32",
            "range": [0, 1],
            "preparation": PREPARATION,
        },
        "normalization": {"mean": config.input_mean, "std": config.input_std, "where": f"in {MODEL_FILE}"},
        "output": {
            "name": OUTPUT,
            "shape": ["batch", len(trained.classes)],
            "type": "float32",
            "meaning": "logits; their softmax is the probability of each class",
        },
    }


def _of_the_run(trained: TrainedNetwork) -> dict[str, Any]:
    """Returns each of `METRICS` (fractions), which of them the run went by and the standard error of that on
    validation images, and the predicted memory of training; None if the folder does not say.
    """
    found: dict[str, Any] = {f"{split}_{name}": None for split in ("val", "test") for name in METRICS}
    found |= {"metric": trained.config.metric, "val_standard_error": None, "training_peak_memory_mib": None}
    folder = trained.path.parent
    if not RunDirectory(folder).metrics_file.is_file():
        return found
    record = read_run(folder)
    row: Mapping[str, Any] = next((row for row in record.epochs if row["epoch"] == trained.epoch), {})
    found |= {f"val_{name}": row.get(name) for name in METRICS}
    found["val_standard_error"] = row.get("standard_error")
    found["training_peak_memory_mib"] = row.get("peak_memory_mib")
    if record.result is not None and trained.epoch == record.epoch_numbers[-1]:  # the last was tested
        found |= {f"test_{name}": record.result.get(f"test_{name}") for name in METRICS}
        found["test_standard_error"] = record.result.get(f"test_{trained.config.metric}_standard_error")
    return found


def write_folder(out: Path, files: Mapping[str, bytes]) -> None:
    """Writes files to a folder that is empty or missing, all or none.

    Raises:
        ConfigError: if it cannot be written.
    """
    beside = new_name_beside(out.resolve())
    try:
        beside.mkdir(parents=True)
        for name, content in files.items():
            (beside / name).write_bytes(content)
        beside.rename(out.resolve())
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise ConfigError(f"--out {out} cannot be written ({error.strerror or error})") from None


def shown(about: Mapping[str, Any], out: Path) -> Sequence[str]:
    """Returns a description of the export, in lines for a terminal: the run's metric, then top-1 accuracy."""
    own = dict.fromkeys([about["metric"], "accuracy_top1"])
    figures = [_figure(about, split, metric) for metric in own for split in ("val", "test")]
    trained = ", ".join([f"epoch {about['epoch']} of {about['epochs']}", *filter(None, figures)])
    check, side = about["check"], about["input"]["shape"][-1]
    size_mib = (out / MODEL_FILE).stat().st_size / 2**20
    small = about.get(INT8)
    files = [MODEL_FILE, *([] if small is None else [INT8_FILE]), WEIGHTS_FILE, CONFIG_FILE, ABOUT_FILE]
    return (
        f"{about['method']} on {about['backbone']}: {trained}",
        f"{INPUT} (batch, 3, {side}, {side}), RGB in [0, 1] -> {OUTPUT} (batch, {len(about['classes'])}), "
        f"opset {OPSET}, {size_mib:.1f} MiB",
        f"checked on {check['images']}: differs from PyTorch by {check['largest_difference']:.1e} at most "
        f"(allowed: {check['tolerance']:g})",
        *([] if small is None else int8_lines(small, INT8_FILE)),
        f"{out}: {', '.join(files)}",
    )


def _figure(about: Mapping[str, Any], split: str, metric: str) -> str:
    """Returns a figure in words, `val accuracy 0.912 ± 0.014`; nothing if it is not known."""
    value = about[f"{split}_{metric}"]
    if value is None:
        return ""
    error = about.get(f"{split}_standard_error") if metric == about["metric"] else None
    return f"{split} {METRICS[metric]} {value:.3f}" + ("" if error is None else f" ± {error:.3f}")
