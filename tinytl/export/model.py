"""A finished model's folder: weights as safetensors, configuration, classes, ONNX, and texts beside them."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinytl.data.splits import Split
from tinytl.errors import ConfigError
from tinytl.export.folder import (
    CheckedOnnx,
    check_is_free,
    checked_onnx,
    digests_of,
    of_the_network,
    some_images,
    write_folder,
)
from tinytl.export.onnx_file import check_packages
from tinytl.runs.directory import config_text, environment
from tinytl.runs.exported import ABOUT_FILE, CONFIG_FILE, MODEL_FILE, SAFETENSORS_FILE, TRAINED_ON
from tinytl.runs.trained import TrainedNetwork


def onnx_or_reason(trained: TrainedNetwork, images: Split, source: str) -> CheckedOnnx | str:
    """Returns a network on the CPU as ONNX, compared on some of `images`; or a line that says why not."""
    try:
        check_packages()
        return checked_onnx(trained, some_images(images, trained.config.resolution), source)
    except ConfigError as error:
        return str(error)


def write_model(
    trained: TrainedNetwork,
    out: Path,
    *,
    onnx: CheckedOnnx | None,
    known: Mapping[str, Any],
    beside: Mapping[str, str],
) -> dict[str, Any]:
    """Writes a network to the folder `out`, whole or not at all; returns the content of its `model.json`.

    `python -m tinytl predict` and `evaluate` read the folder as they read a run's.

    Args:
        trained: the network, on the CPU.
        out: a folder that is empty or missing.
        onnx: its ONNX file, if there is one.
        known: what `model.json` says beside the network: figures, where it comes from.
        beside: more files, by name.

    Raises:
        ConfigError: if the folder cannot be written.
    """
    check_is_free(out)
    config = dataclasses.replace(trained.config, device="auto")  # where it trained is no property of it
    files = {SAFETENSORS_FILE: _safetensors(trained), CONFIG_FILE: config_text(config).encode()}
    if onnx is not None:
        files[MODEL_FILE] = onnx.model
    about = {
        **of_the_network(trained),
        **({} if trained.trained_on == ("train",) else {TRAINED_ON: list(trained.trained_on)}),
        **known,
        **({} if onnx is None else onnx.about),
        "environment": environment(),
        "sha256": digests_of(files),
    }
    texts = {**beside, ABOUT_FILE: json.dumps(about, indent=2) + "\n"}
    write_folder(out, files | {name: text.encode() for name, text in texts.items()})
    return about


def _safetensors(trained: TrainedNetwork) -> bytes:
    from safetensors.torch import save

    # A tensor that shares its memory with another one would be refused.
    tensors = {name: t.detach().contiguous().clone() for name, t in trained.net.state_dict().items()}
    return save(tensors, {"format": "pt"})
