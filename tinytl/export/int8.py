"""A trained network in eight bits: calibrated on training images, judged on validation images, timed."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from tinytl.config.names import METRICS
from tinytl.config.train_config import TrainConfig
from tinytl.data.batches import eval_batches
from tinytl.data.load import load_dataset
from tinytl.data.splits import DataSplits, Split
from tinytl.errors import ConfigError
from tinytl.export.onnx_network import OnnxNetwork, as_fractions, ms_per_picture
from tinytl.export.quantization import operations_in_float, quantized
from tinytl.export.rounded_weights import Floats
from tinytl.plural import counted
from tinytl.runs.checkpoint_file import check_same_classes
from tinytl.runs.trained import TrainedNetwork
from tinytl.training.evaluation import evaluate
from tinytl.training.judgements import Judgements
from tinytl.training.mixed_precision import MixedPrecision

CALIBRATION_IMAGES = 128
IMAGES_AT_ONCE = 16
FLOAT, INT8 = "float32", "int8"


class Int8Onnx(NamedTuple):
    """An ONNX file in eight bits, and what `model.json` says about it."""

    model: bytes
    about: Mapping[str, Any]


def images_for_int8(config: TrainConfig, trained: TrainedNetwork) -> DataSplits:
    """Returns the data set that a network in eight bits is calibrated and judged on.

    Raises:
        ConfigError: if it is not there, has other classes, or has no validation images.
    """
    config = dataclasses.replace(config, num_classes=None)
    try:
        data = load_dataset(config, known=trained.classes)
        check_same_classes({"classes": trained.classes}, data.classes, trained.path)
    except ConfigError as error:
        raise ConfigError(
            f"--int8 calibrates on the training images of the run: {error}; if they have moved, name their "
            "folder with --data-dir"
        ) from None
    if not len(data.val):
        raise ConfigError(
            f"--int8 needs validation images to judge it, and {data.name} has none: leave it out"
        )
    return data


def int8_onnx(trained: TrainedNetwork, model: bytes, data: DataSplits, max_accuracy_drop: float) -> Int8Onnx:
    """Returns a network in eight bits.

    Args:
        trained: the network.
        model: the same as ONNX.
        data: from `images_for_int8`.
        max_accuracy_drop: by how much the metric of the run may fall on validation images, a fraction.

    Raises:
        ConfigError: if the metric of the run falls by more.
    """
    config = trained.config
    small = quantized(model, calibration_batches(data.train, config.resolution))
    models = {FLOAT: model, INT8: small}
    found = {name: judged(one, data.val, config) for name, one in models.items()}
    drop, error = _drop(found, config.metric)
    _check(trained, found, drop, error, max_accuracy_drop)
    times = ms_per_picture(models, config.resolution)
    n_calibrated = min(CALIBRATION_IMAGES, len(data.train))
    about = {
        "calibrated_on": f"{counted(n_calibrated, 'training image')} of {data.name}",
        "judged_on": f"{counted(len(data.val), 'validation image')} of {data.name}",
        "judged_images_trained_it": "val" in trained.trained_on,
        "metric": config.metric,
        "drop": drop,
        "drop_standard_error": error,
        "max_accuracy_drop": max_accuracy_drop,
        "same_class": float(np.mean(found[FLOAT].predicted == found[INT8].predicted)),
        "operations_in_float": operations_in_float(small),
        **{
            name: found[name].figures() | {"bytes": len(one), "ms_per_picture": times[name]}
            for name, one in models.items()
        },
    }
    return Int8Onnx(small, about)


def calibration_batches(images: Split, side: int, n_images: int = CALIBRATION_IMAGES) -> list[Floats]:
    """Returns images spread over a split, `(N, 3, R, R)` in [0, 1]: all, or `n_images`."""
    chosen = np.unique(np.linspace(0, len(images) - 1, n_images).astype(np.int64))
    batches = eval_batches(images.take(chosen), batch_size=IMAGES_AT_ONCE, resolution=side, workers=0)
    return [as_fractions(batch).contiguous().numpy() for batch, _ in batches]


def judged(model: bytes, images: Split, config: TrainConfig) -> Judgements:
    """Returns what an ONNX network predicts of images."""
    return evaluate(
        OnnxNetwork(model),
        as_fractions,
        images,
        resolution=config.resolution,
        batch_size=IMAGES_AT_ONCE,
        precision=MixedPrecision("float32", torch.device("cpu")),
        workers=config.loader_workers,
    )


def shown(about: Mapping[str, Any], file: str) -> Sequence[str]:
    """Returns what `model.json` says about a network in eight bits, in lines for a terminal."""
    before, after, metric = about[FLOAT], about[INT8], about["metric"]
    trained = " (which trained it)" if about["judged_images_trained_it"] else ""
    kept = ", ".join(f"{n} {kind}" for kind, n in about["operations_in_float"].items())
    return (
        f"{file}: {after['bytes'] / 2**20:.1f} MiB of {before['bytes'] / 2**20:.1f}, "
        f"{after['ms_per_picture']:.1f} ms a picture of {before['ms_per_picture']:.1f} (here, one thread); "
        f"calibrated on {about['calibrated_on']}",
        f"on {about['judged_on']}{trained}: {METRICS[metric]} {_figure(after, metric)}, in floats "
        f"{_figure(before, metric)}; falls by {about['drop']:.3f} ± {about['drop_standard_error']:.3f} "
        f"(allowed: {about['max_accuracy_drop']:g}); the same class for {about['same_class']:.1%}",
        f"computed in floats: {kept}",
    )


def _drop(found: Mapping[str, Judgements], metric: str) -> tuple[float, float]:
    """Returns by how much a metric falls, and the standard error of that: both judged the same images."""
    moved = found[FLOAT].influence(metric) - found[INT8].influence(metric)
    return getattr(found[FLOAT], metric) - getattr(found[INT8], metric), math.sqrt(np.sum(moved**2))


def _check(
    trained: TrainedNetwork,
    found: Mapping[str, Judgements],
    drop: float,
    error: float,
    max_accuracy_drop: float,
) -> None:
    if drop <= max_accuracy_drop:
        return
    metric = trained.config.metric
    n_images = counted(len(found[INT8].labels), "validation image")
    before, after = (_figure(found[name].figures(), metric) for name in (FLOAT, INT8))
    enough = math.ceil(drop * 1000) / 1000
    raise ConfigError(
        f"{trained.path}: in eight bits {METRICS[metric]} on {n_images} "
        f"is {after}, in floats {before}: it falls by {drop:.3f} ± {error:.3f}, more than "
        f"{max_accuracy_drop:g}: nothing is written; leave --int8 out, or allow it: "
        f"--max-accuracy-drop {enough:g}"
    )


def _figure(figures: Mapping[str, float], metric: str) -> str:
    return f"{figures[metric]:.3f} ± {figures[f'{metric}_standard_error']:.3f}"
