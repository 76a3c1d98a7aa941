"""The fields of a TrainConfig that hold names: each by its own name, whatever case it was given in."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tinytl.config.dataset_names import dataset_name
from tinytl.config.names import (
    ACT_FUNCS,
    BACKBONE_FAMILIES,
    BACKBONES,
    CHECKPOINTS,
    CLASS_WEIGHTINGS,
    DEVICES,
    ENGINES,
    FROZEN_WEIGHTS,
    KERNEL_CLIPPINGS,
    LAYER_KINDS,
    LOADINGS,
    LR_SCHEDULES,
    MEMORY_FORMATS,
    METHODS,
    METRICS,
    MOMENTS,
    NORMS,
    OPTIMIZERS,
    PLANS,
    PRECISIONS,
    SAMPLINGS,
    SELECTIONS,
    UPSAMPLE_TYPES,
)
from tinytl.errors import ConfigError, choose
from tinytl.passwords import set_apart

if TYPE_CHECKING:
    from tinytl.config.train_config import TrainConfig

_NAMES: Mapping[str, Sequence[str]] = {
    "loading": LOADINGS,
    "method": METHODS,
    "norm": NORMS,
    "select": SELECTIONS,
    "engine": ENGINES,
    "plan": PLANS,
    "checkpoint": CHECKPOINTS,
    "optimizer": OPTIMIZERS,
    "moments": MOMENTS,
    "lr_schedule": LR_SCHEDULES,
    "metric": tuple(METRICS),
    "class_weighting": CLASS_WEIGHTINGS,
    "sampling": SAMPLINGS,
    "precision": PRECISIONS,
    "frozen_weights": FROZEN_WEIGHTS,
    "memory_format": MEMORY_FORMATS,
    "device": DEVICES,
    "kernel_clipping": KERNEL_CLIPPINGS,
    "act_func": ACT_FUNCS,
    "upsample_type": UPSAMPLE_TYPES,
}
"""Each field that holds one of a few names, and these."""


def chosen_names(config: "TrainConfig") -> dict[str, Any]:
    """Returns each field of `config` that holds a name or an address, as the configuration keeps it.

    Raises:
        ConfigError: for an unknown name, or a value that is no text.
    """
    found: dict[str, Any] = _addresses(config)
    found["dataset"] = dataset_name(config.dataset)
    for field, known in _NAMES.items():
        value = getattr(config, field)
        if value is not None or field != "memory_format":
            found[field] = choose(field, value, known)
    found["backbone"] = backbone_name(config.backbone)
    found["update_layers"] = layer_kinds(config.update_layers)
    found["bias_blocks"] = bias_blocks(config.bias_blocks)
    if found["method"] == "Scratch" and found["weights"] == "imagenet":
        found["weights"] = "none"
    return found


def backbone_name(text: object) -> str:
    """Returns a backbone's name: one of ours, or another package's, which is looked up as it is built.

    Raises:
        ConfigError: for another name.
    """
    family, slash, name = str(text).partition("/")
    if slash and family.lower() in BACKBONE_FAMILIES and re.fullmatch(r"[\w.@-]+", name):
        return f"{family.lower()}/{name}"
    others = [f"{one}/NAME" for one in BACKBONE_FAMILIES]
    return choose("backbone", str(text), (*BACKBONES, *others))


def _addresses(config: "TrainConfig") -> dict[str, Any]:
    """Returns the addresses of weights without their passwords: a configuration is written in many places."""
    weights = "none" if config.weights is None else config.weights  # YAML's none
    if not isinstance(weights, str):
        raise ConfigError(f"weights={weights!r} is neither imagenet, none, a file nor a URL")
    if config.data_dir is not None and not isinstance(config.data_dir, str):
        raise ConfigError(f"data_dir={config.data_dir!r} is no folder's name")
    if config.exclude is not None and not isinstance(config.exclude, str):
        raise ConfigError(f"exclude={config.exclude!r} is no file's name")
    lite_weights = config.lite_weights
    if lite_weights is not None and not isinstance(lite_weights, str):
        raise ConfigError(f"lite_weights={lite_weights!r} is neither a file nor a URL")
    lite_weights = None if lite_weights is None else set_apart(lite_weights)
    return {"weights": set_apart(weights), "lite_weights": lite_weights}


def layer_kinds(text: object) -> str:
    """Returns the kinds of convolutions in the order of a block, joined by a plus.

    Raises:
        ConfigError: naming the one that is unknown.
    """
    given = [choose("update_layers", kind.strip(), LAYER_KINDS) for kind in re.split(r"[+,]", str(text))]
    return "+".join(kind for kind in LAYER_KINDS if kind in given)


def bias_blocks(value: object) -> int | str:
    """Returns a number of blocks as it is, and a word by its name; None is `none`.

    Raises:
        ConfigError: for an unknown word.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        return choose("bias_blocks", "none" if value is None else str(value), ("same", "all", "none"))
    except ConfigError as error:
        raise ConfigError(f"{error}, or a number of blocks") from None
