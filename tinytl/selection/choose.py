"""From scores to a scheme: the parts that are worth most per byte, as many as there is room for."""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tinytl.config.train_config import TrainConfig
from tinytl.data.load import DataSplits
from tinytl.features.key import images_digest
from tinytl.memory.fill_budget import is_open
from tinytl.memory.predict import check_budget, fill_budget, filled_as, with_scheme
from tinytl.networks.backbones.weights import Weights, input_normalization, read_weights
from tinytl.networks.update_scheme import (
    Part,
    bytes_of,
    candidates,
    layers_of,
    parts_of,
)
from tinytl.selection import contribution
from tinytl.selection.contribution import contributions
from tinytl.selection.fisher import FISHER_IMAGES, Scores, fisher_information
from tinytl.step_time.kept import keep, kept_file

FORMAT = 2
"""Raised if scores are computed otherwise, so that nobody uses what an older version has kept."""
COST = {
    "fisher": f"the gradients of {FISHER_IMAGES} images at most, some seconds",
    "contribution": f"{contribution.STEPS} steps for each convolution, some minutes, once",
}
"""What a choice costs, in words."""

logger = logging.getLogger(__name__)
_KNOWN: dict[str, Scores] = {}


def chosen(config: TrainConfig, data: DataSplits, weights: Weights | None = None) -> TrainConfig:
    """Returns `config` with `update_scheme` set, if it is of method Sparse.

    The choice is the same for the same seed, images and weights. `num_classes` is set; `weights` are the
    result of `read_weights(config)`, if they were already read. Scores are kept in `$XDG_CACHE_HOME/tinytl`
    for later runs.

    Raises:
        ConfigError: for a budget that nothing fits, or no validation images if they have to judge.
    """
    if config.method != "Sparse" or config.update_scheme is not None:
        return config
    if config.select == "last":
        return with_scheme(config)
    if is_open(config):
        check_budget(config)  # comparing takes minutes
    order = by_worth(scores_of(config, data, weights or read_weights(config)), config)
    if is_open(config):
        return fill_budget(config, order)
    return filled_as(with_scheme(dataclasses.replace(config, select="last")), config, order)


def by_worth(scores: Mapping[str, Sequence[float]], config: TrainConfig) -> list[Part]:
    """Returns all parts of the candidates, those worth most per byte first; `scores`: of each channel."""
    worth: list[tuple[float, Part]] = []
    for layer in candidates(config):
        of_channel = scores[layer.name]
        order = sorted(range(layer.channels), key=lambda c: -of_channel[c])
        for part in parts_of(layer, order):
            value = sum(of_channel[channel] for channel in part.channels)
            per_byte = value / bytes_of([part], config)
            worth.append((per_byte if value > 0 else value, part))  # of what does harm, the least first
    return [part for _, part in sorted(worth, key=lambda one: -one[0])]


def scores_of(config: TrainConfig, data: DataSplits, weights: Weights) -> Scores:
    """Returns a number for each input channel of each candidate, as `select` judges them; keeps them."""
    about = _what_decides(config, data, weights)
    path = kept_file("selection", about)
    if path.name not in _KNOWN:
        known = _kept(path)
        if known is not None:
            _KNOWN[path.name] = known
        else:
            logger.warning("choosing the weights that train, by %s: %s", config.select, COST[config.select])
            _KNOWN[path.name] = _JUDGES[config.select](config, data, weights)
            if None not in about["images"]:  # else nothing says which images they were
                keep(path, {"about": about, "scores": _KNOWN[path.name]})
    return _KNOWN[path.name]


def _kept(path: Path) -> Scores | None:
    """Returns the scores in a file; None if there are none, or none that can be read."""
    try:
        found = json.loads(path.read_text())["scores"]
        return {str(name): [float(value) for value in values] for name, values in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _by_contribution(config: TrainConfig, data: DataSplits, weights: Weights) -> Scores:
    """Divides the gain of each convolution among its channels, all alike."""
    gains = contributions(config, data, weights)
    return {layer.name: [gains[layer.name] / layer.channels] * layer.channels for layer in layers_of(config)}


_JUDGES: Mapping[str, Callable[[TrainConfig, DataSplits, Weights], Scores]] = {
    "fisher": fisher_information,
    "contribution": _by_contribution,
}


def _what_decides(config: TrainConfig, data: DataSplits, weights: Weights) -> dict[str, Any]:
    judged_at = contribution.RESOLUTION if config.select == "contribution" else config.resolution
    grouped = config.gn_channel_per_group if config.norm == "group_norm" else None
    return {
        "format": FORMAT,
        "select": config.select,
        "images": [images_digest(part) for part in (data.train, data.val)],
        "classes": config.num_classes,
        "backbone": config.backbone,
        "weights": _digest(weights),
        "input": dataclasses.astuple(input_normalization(config, weights))[:2],
        "norm": [config.norm if config.norm != "batch_norm" else "frozen_bn", grouped],
        "resolution": judged_at,
        "seed": config.seed,
        "torch": torch.__version__,
    }


def _digest(weights: Weights) -> str | None:
    if weights.backbone is None:
        return None
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(weights.backbone.state_dict.items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
