"""One table of cases: every method x norm x backbone as a small configuration. It drives the tests."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from tinytl.config.names import BACKBONES, METHODS, NORMS
from tinytl.config.plan import lean_plan
from tinytl.config.train_config import TrainConfig
from tinytl.data.splits import ImageSet

OF_THE_MACHINE = ("epoch_time_s", "images_per_s", "process_peak_mib")
"""What an epoch says of the clock and of its process; two runs that train alike differ in these alone."""


def small(**changes: Any) -> TrainConfig:
    """A configuration that trains in a fraction of a second, on the CPU of any machine."""
    fields = {"backbone": "mobilenet_v2", "weights": "none", "num_classes": 3, "device": "cpu"}
    return TrainConfig(**fields | {"resolution": 32, "batch_size": 4} | changes)


def settled(**changes: Any) -> TrainConfig:
    """Returns `small(**changes)` with its plan settled: the whole batch, nothing recomputed, all blocks lean.

    For an open plan, the memory and the time of three ways to run are predicted first. That takes several
    times as long as the few steps that a test trains.
    """
    return lean_plan(small(**changes))


def learnt(row: Mapping[str, Any], *aside: str) -> dict[str, Any]:
    """Returns what an epoch says of its training: all but `OF_THE_MACHINE`, and what is named."""
    return {name: value for name, value in row.items() if name not in (*OF_THE_MACHINE, *aside)}


def exists(method: str, norm: str) -> bool:
    """Whether a method is defined under a norm: a random network has no statistics to freeze."""
    return (method, norm) != ("Scratch", "frozen_bn")


def _micro_batch_size(norm: str, turn: int) -> int | None:
    return None if norm == "batch_norm" else (1, 2, None)[turn % 3]


def _id(config: TrainConfig) -> str:
    return f"{config.method}-{config.norm}-{config.backbone}"


ALL_CASES = {
    _id(config): config
    for turn, (method, norm, backbone) in enumerate(itertools.product(METHODS, NORMS, BACKBONES))
    if exists(method, norm)
    for config in [
        small(
            method=method,
            norm=norm,
            backbone=backbone,
            resolution=(32, 48, 64)[turn // 3 % 3],
            micro_batch_size=_micro_batch_size(norm, turn),
        )
    ]
}
"""All 78 cases, for cheap tests."""

SPREAD_CASES = {
    _id(config): config
    for (m, method), (n, norm) in itertools.product(enumerate(METHODS), enumerate(NORMS))
    if exists(method, norm)
    for config in [
        small(
            method=method,
            norm=norm,
            backbone=BACKBONES[(m + n) % 3],
            resolution=64,
            micro_batch_size=_micro_batch_size(norm, m),
        )
    ]
}
"""26 cases, for other tests: every method with every norm, and each of both with every backbone."""


def tinted_images(n: int, seed: int) -> ImageSet:
    """Three classes of small noise pictures that differ by colour."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int64) % 3
    images = rng.integers(0, 60, (n, 16, 16, 3))
    images[np.arange(n), :, :, labels] += 150
    return ImageSet(images.astype(np.uint8), labels)
