"""A TrainConfig as one flat dict, `lr_ratio.late` included. Files, flags and search spaces hold this form."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from tinytl.config.dataset_names import dataset_name
from tinytl.config.method_aliases import expand_method
from tinytl.config.names import SPARSE_FIELDS
from tinytl.config.train_config import LrRatio, TrainConfig
from tinytl.errors import choose

FIELD_ALIASES = {"lite_kernel_size": "kernel_size"}
"""Names that the command line uses if the field's own name would be unclear there."""

DECIDE_SCHEME = {*SPARSE_FIELDS, "backbone", "budget_mib"} - {"update_scheme"}
"""Fields from which method Sparse chooses what trains: if one is replaced, it chooses anew."""

_LR_RATIO_PREFIX = "lr_ratio."


def field_names() -> list[str]:
    """Flat names of every field, `lr_ratio.late` and its like included. A search space may name these."""
    names = [f.name for f in dataclasses.fields(TrainConfig) if f.name != "lr_ratio"]
    return names + [_LR_RATIO_PREFIX + f.name for f in dataclasses.fields(LrRatio)]


def config_from_flat(flat: Mapping[str, Any], base: TrainConfig | None = None) -> TrainConfig:
    """Returns `base` (default: all defaults) with the fields of a flat dict replaced.

    Keys are `field_names()`; lists become tuples; an alias of `method` becomes what it stands for. Replacing
    a field of `base` also drops what belonged to the old value: folder and list of another data set, the
    random weights of Scratch. Raises ConfigError for an unknown key or a bad value.
    """
    base = base or TrainConfig()
    fields: dict[str, Any] = {}
    ratios: dict[str, float] = {}
    for given, value in expand_method(flat).items():
        key = choose("parameter", FIELD_ALIASES.get(given, given), field_names())
        if key.startswith(_LR_RATIO_PREFIX):
            ratios[key.removeprefix(_LR_RATIO_PREFIX)] = value
        else:
            fields[key] = tuple(value) if isinstance(value, list) else value
    if dataset_name(fields.get("dataset", base.dataset)) != base.dataset:
        fields.setdefault("data_dir", None)
        fields.setdefault("exclude", None)
    if base.method == "Scratch" and fields.get("method", "Scratch") != "Scratch":
        fields.setdefault("weights", TrainConfig.weights)
    if base.method == "Sparse" and fields.get("method", "Sparse") != "Sparse":
        for name in SPARSE_FIELDS:
            fields.setdefault(name, getattr(TrainConfig, name))
    if base.update_scheme is not None and fields.keys() & DECIDE_SCHEME:
        fields.setdefault("update_scheme", None)  # it was the outcome of those
    if ratios:
        fields["lr_ratio"] = dataclasses.replace(base.lr_ratio, **ratios)
    return dataclasses.replace(base, **fields)


def flat_from_config(config: TrainConfig) -> dict[str, Any]:
    """Returns every field under its flat name; `config_from_flat` builds an equal config from them."""
    flat = dataclasses.asdict(config)
    ratios = flat.pop("lr_ratio")
    return flat | {_LR_RATIO_PREFIX + name: ratio for name, ratio in ratios.items()}


def with_defaults(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a flat dict with every field: one that an older version did not have yet has its default."""
    return flat_from_config(TrainConfig()) | dict(flat)
