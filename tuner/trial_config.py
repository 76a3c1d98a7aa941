"""From a sampled flat dict to a TrainConfig: the only place where the two meet. Imports nothing heavy."""

import dataclasses
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from search_spaces.space import Parameter, SearchSpace
from search_spaces.values import Choices
from tinytl.config.chosen_names import backbone_name
from tinytl.config.flags import parse_field, split_assignments
from tinytl.config.flat import FIELD_ALIASES, config_from_flat, field_names
from tinytl.config.method_aliases import choose_method, own_name
from tinytl.config.names import (
    CHECKPOINTS,
    ENGINES,
    FIELDS_WITHOUT_MEMORY,
    FROZEN_WEIGHTS,
    LITE_METHODS,
    LITE_RATIO,
    MOMENTS,
    NORMS,
    OPTIMIZERS,
    PLANS,
)
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError, choose
from tuner.config import StudyConfig

OF_THE_STUDY = (
    "dataset data_dir loading loader_workers skip_broken exclude min_per_class num_classes weights "
    "lite_weights epochs device metric seed data_seed"
).split()
"""Fields that every trial of a study shares: comparing trials that differ in them would mean nothing."""
_NAMED: Mapping[str, Sequence[str]] = {
    "norm": NORMS,
    "engine": ENGINES,
    "optimizer": OPTIMIZERS,
    "moments": MOMENTS,
    "plan": PLANS,
    "checkpoint": CHECKPOINTS,
    "frozen_weights": FROZEN_WEIGHTS,
}
"""Fields that hold names: an unknown name raises before any combination is tried."""
_CHECKED_SAMPLES = 256
_MEMORY_RISES_WITH = (
    "resolution batch_size micro_batch_size expand kernel_size update_blocks channel_ratio mixup_alpha "
    "cutmix_alpha weight_average"
).split()
_TRAINS_MORE_THAN = {
    "FT-Full": ("FT-Last", "FT-Norm+Last", "TinyTL-B", "Last-3", "Last-5", "Sparse", "Scratch"),
    "Scratch": ("FT-Last", "FT-Norm+Last", "TinyTL-B", "Last-3", "Last-5", "Sparse"),
    "TinyTL-L+B": ("FT-Last", "TinyTL-B", "TinyTL-L"),
}
_MEMORY_BESIDE_METHOD = (
    "backbone norm resolution batch_size micro_batch_size engine plan checkpoint optimizer precision moments"
).split()
_MEMORY_FALLS_WITH = ("n_groups", "downsample_ratio", "gn_channel_per_group")


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Returns `--set KEY=VALUE` texts as values of TrainConfig's fields; commas make a list of choices.

    Raises:
        ConfigError: for an unknown key or a value that is not of its type.
    """
    settings: dict[str, Any] = {}
    for given, text in split_assignments("--set", texts):
        key = choose("parameter", FIELD_ALIASES.get(given, given), field_names())
        several = "," in text and key not in ("input_mean", "input_std")
        values = [parse_field(key, part.strip()) for part in (text.split(",") if several else [text])]
        if key == "method":  # a space's `when` names methods by their own names
            values = [own_name(value) for value in values]
        settings[key] = values if several else values[0]
    return settings


def base_config(study: StudyConfig, space: SearchSpace) -> TrainConfig:
    """Returns what all trials share: data, network and epochs, of the command line or fixed by the space.

    Raises:
        ConfigError: for an unknown name, or values that exclude each other.
    """
    flat: dict[str, Any] = {
        "dataset": study.dataset,
        "data_dir": study.data_dir,
        "skip_broken": study.skip_broken,
        "exclude": study.exclude,
        "min_per_class": study.min_per_class,
        "backbone": study.backbone,
        "weights": study.weights,
        "lite_weights": study.lite_weights,
        "epochs": study.epochs,
        "metric": study.metric,
        "seed": study.seed,
        "loader_workers": 1,  # trials share the cores
    }
    for name in ("input_mean", "input_std"):
        text = getattr(study, name)
        if text is not None:
            flat[name] = parse_field(name, text)
    shared = config_from_flat(flat)
    for name in [*space.fixed, *(parameter.name for parameter in space.parameters)]:
        try:
            choose("parameter", name, field_names())
        except ConfigError as error:
            raise ConfigError(f"space {space.name}: {error}") from None
    fixed = {
        name: choose(name, str(space.fixed[name]), known)
        for name, known in _NAMED.items()
        if space.fixed.get(name) is not None
    }
    if space.fixed.get("backbone") is not None:
        fixed["backbone"] = backbone_name(space.fixed["backbone"])
    if space.fixed.get("method") is not None:
        choose_method(str(space.fixed["method"]))
    for parameter in space.parameters:
        if parameter.name in OF_THE_STUDY:
            raise ConfigError(f"space {space.name}: {parameter.name} is the same for a whole study; fix it")
    own = {name: value for name, value in space.fixed.items() if name in OF_THE_STUDY}
    if fixed.get("plan") == "budget" and "budget_mib" not in space.fixed:
        if study.memory_budget_mib is None:
            raise ConfigError("plan=budget without a budget: add --memory-budget-mib MIB")
        own |= {"plan": "budget", "budget_mib": study.memory_budget_mib}
    return config_from_flat(own, shared)


def trial_config(base: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """Returns the configuration of one trial from a sample of the space (fixed values included).

    Raises:
        ConfigError: for values that exclude each other.
    """
    return config_from_flat(values, base)


def check_space(space: SearchSpace, base: TrainConfig) -> None:
    """Builds every baseline and 256 seeded samples of the space, so that a bad combination is found early.

    Raises:
        ConfigError: naming the space and the mistake.
    """
    for name, point in space.baselines.items():
        _try(f"space {space.name}: baseline {name}", base, dict(space.fixed) | dict(point))
    rng = random.Random(0)
    for _ in range(_CHECKED_SAMPLES):
        values = space.sample(lambda parameter: _random_value(parameter, rng))
        _try(f"space {space.name}: some configurations are impossible", base, values)


def memory_varies(space: SearchSpace) -> bool:
    """Whether any searched parameter can change the peak memory of a training step."""
    return any(
        parameter.name not in FIELDS_WITHOUT_MEMORY and not parameter.name.startswith("lr_ratio.")
        for parameter in space.parameters
    )


def lite_geometries(space: SearchSpace, base: TrainConfig) -> list[TrainConfig]:
    """Returns a configuration for each backbone, `n_groups` and `expand` of the space's lite residuals; if
    they are pretrained, for each geometry.
    """
    decisive = ["backbone", "method", "n_groups", "expand"]
    if base.lite_weights is not None:
        decisive += ["kernel_size", "downsample_ratio", "resolution", "norm"]
    found = {}
    for values in _by(space, decisive):
        config = trial_config(base, values)
        if config.method in LITE_METHODS:
            found[tuple(getattr(config, name) for name in decisive if name != "method")] = config
    return list(found.values())


def other_lite_ratio(space: SearchSpace, base: TrainConfig, was: float | None) -> float | None:
    """Returns the multiple of `base_lr` at which lite residuals of some trial train, if it was another one
    when the study's own `lr_ratio.lite_residual` was `was`; None if no trial would differ.
    """
    searched = next((p.when for p in space.parameters if p.name == LITE_RATIO), {})
    for values in _by(space, ["method", "optimizer", *searched]):
        if LITE_RATIO in values:
            continue
        config = trial_config(base, values)
        ratio = config.lite_ratio(base.lr_ratio.lite_residual)
        if ratio != config.lite_ratio(was):
            return ratio
    return None


def _by(space: SearchSpace, decisive: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yields configurations with every value (of a range: its ends) of the decisive parameters."""

    def candidates(parameter: Parameter) -> Sequence[Any]:
        values = _ends(parameter)
        return values if parameter.name in decisive else values[:1]

    return space.product(candidates)


def smallest_configs(space: SearchSpace, base: TrainConfig) -> list[TrainConfig]:
    """Returns one configuration per method, norm and backbone; one needs the least memory of the space."""
    return _extreme_configs(space, base, largest=False)


def largest_configs(space: SearchSpace, base: TrainConfig) -> list[TrainConfig]:
    """Returns configurations, one of which needs the space's most memory; those that train all come first.

    For each norm and backbone, a method is left out if another one trains all that it trains, and more.
    """
    found: dict[tuple[Any, ...], dict[str, TrainConfig]] = {}
    for config in _extreme_configs(space, base, largest=True):
        beside = tuple(getattr(config, name) for name in _MEMORY_BESIDE_METHOD)
        found.setdefault(beside, {})[config.method] = config
    kept = [
        config
        for methods in found.values()
        for method, config in methods.items()
        if not any(method in _TRAINS_MORE_THAN.get(other, ()) for other in methods)
    ]
    return sorted(kept, key=lambda c: c.method not in ("FT-Full", "Scratch"))


def _extreme_configs(space: SearchSpace, base: TrainConfig, *, largest: bool) -> list[TrainConfig]:
    """Memory rises with resolution, batch, micro-batch, width, kernel and the bits of frozen weights. It
    falls with groups and pooling.

    None counts as more than any number: no micro-batches, or pooling over the whole map.
    """

    def candidates(parameter: Parameter) -> Sequence[Any]:
        values = _ends(parameter)
        if parameter.name in _MEMORY_RISES_WITH or parameter.name in _MEMORY_FALLS_WITH:
            extreme = max if largest == (parameter.name in _MEMORY_RISES_WITH) else min
            return [extreme(values, key=lambda v: float("inf") if v is None else v)]
        if parameter.name == "frozen_weights":  # the most bits first
            return [(min if largest else max)(values, key=FROZEN_WEIGHTS.index)]
        if parameter.name in FIELDS_WITHOUT_MEMORY or parameter.name.startswith("lr_ratio."):
            return values[:1]
        return values

    return [_chosen_without_images(trial_config(base, values)) for values in space.product(candidates)]


def _chosen_without_images(config: TrainConfig) -> TrainConfig:
    """Returns `config` with the scheme of method Sparse that no image decides: of about the same memory."""
    return config if config.method != "Sparse" else dataclasses.replace(config, select="last")


def largest_resolution(space: SearchSpace, base: TrainConfig) -> int:
    """Returns the largest input in pixels that any configuration of the space has."""
    searched = [max(_ends(p)) for p in space.parameters if p.name == "resolution"]
    return int(searched[0] if searched else space.fixed.get("resolution") or base.resolution)


def _ends(parameter: Parameter) -> list[Any]:
    values = parameter.values
    return list(values.choices) if isinstance(values, Choices) else [values.low, values.high]


def _random_value(parameter: Parameter, rng: random.Random) -> Any:
    values = parameter.values
    if isinstance(values, Choices):
        return rng.choice(values.choices)
    if values.whole:
        return rng.randrange(int(values.low), int(values.high) + 1, int(values.step or 1))
    return rng.uniform(values.low, values.high)


def _try(place: str, base: TrainConfig, values: Mapping[str, Any]) -> None:
    try:
        trial_config(base, values)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None
