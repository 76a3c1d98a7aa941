"""The range of each number of a TrainConfig."""

from typing import TYPE_CHECKING

from tinytl.config.checks import require_int, require_number
from tinytl.config.names import MOST_MAGNITUDE, MOST_SEED
from tinytl.errors import ConfigError

if TYPE_CHECKING:
    from tinytl.config.train_config import TrainConfig


def check_numbers(config: "TrainConfig") -> None:
    """Checks the range and the type of every field that holds a number, or true or false.

    Raises:
        ConfigError: naming the field, its value and the limit.
    """
    for name in ("n_groups", "gn_channel_per_group", "epochs", "batch_size"):
        require_int(name, getattr(config, name), low=1)
    for name, low in (("num_classes", 2), ("micro_batch_size", 1), ("downsample_ratio", 1)):
        if getattr(config, name) is not None:
            require_int(name, getattr(config, name), low=low)
    require_int("min_per_class", config.min_per_class, low=0)
    require_int("resolution", config.resolution, low=32)
    require_int("seed", config.seed, low=0, high=MOST_SEED)
    if config.data_seed is not None:
        require_int("data_seed", config.data_seed, low=0, high=MOST_SEED)
    if config.loader_workers is not None:
        require_int("loader_workers", config.loader_workers, low=0)
    require_int("rand_augment", config.rand_augment, low=0, high=MOST_MAGNITUDE)
    require_int("kernel_size", config.kernel_size, low=1)
    if config.kernel_size % 2 == 0:
        raise ConfigError(f"kernel_size={config.kernel_size} is even: use an odd kernel such as 3 or 5")
    require_number("expand", config.expand, above=0.0)
    require_number("base_lr", config.base_lr, above=0.0)
    require_number("momentum", config.momentum, low=0.0, below=1.0)
    require_number("gamma", config.gamma, above=0.0, high=1.0)
    require_number("warmup_epochs", config.warmup_epochs, low=0.0)
    require_number("weight_decay", config.weight_decay, low=0.0)
    require_number("label_smoothing", config.label_smoothing, low=0.0, below=1.0)
    require_number("mixup_alpha", config.mixup_alpha, low=0.0)
    require_number("cutmix_alpha", config.cutmix_alpha, low=0.0)
    require_number("weight_average", config.weight_average, low=0.0, below=1.0)
    require_number("dropout", config.dropout, low=0.0, below=1.0)
    if config.crop_scale_min is not None:
        require_number("crop_scale_min", config.crop_scale_min, above=0.0, high=1.0)
    if config.budget_mib is not None:
        require_number("budget_mib", config.budget_mib, above=0.0)
    if config.stock_below_kib is not None:
        require_number("stock_below_kib", config.stock_below_kib, low=0.0)
    if config.slice_mib is not None:
        require_number("slice_mib", config.slice_mib, above=0.0)
    for name in ("flip", "cuda_graph"):
        if getattr(config, name) is not None and not isinstance(getattr(config, name), bool):
            raise ConfigError(f"{name}={getattr(config, name)!r} is neither true nor false")
    for name in ("weight_standardization", "skip_broken"):
        if not isinstance(getattr(config, name), bool):
            raise ConfigError(f"{name}={getattr(config, name)!r} is neither true nor false")
    for name, above in (("input_mean", None), ("input_std", 0.0)):
        value = getattr(config, name)
        if value is not None:
            if not isinstance(value, tuple) or len(value) != 3:
                raise ConfigError(f"{name}={value!r} is not three numbers: give one, or R,G,B")
            for channel in value:
                require_number(name, channel, above=above)
