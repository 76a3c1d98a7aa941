"""Fields of a TrainConfig that exclude each other, or have no effect beside others."""

import dataclasses
from typing import TYPE_CHECKING

from tinytl.config.checks import require_int, require_number
from tinytl.config.names import ALL_STOCK_KIB, ALL_TRAINING_METHODS, BLOCKS, LITE_METHODS, SPARSE_FIELDS
from tinytl.errors import ConfigError

if TYPE_CHECKING:
    from tinytl.config.train_config import TrainConfig


def check_together(config: "TrainConfig") -> None:
    """Checks fields that exclude each other, or have no effect beside others.

    Raises:
        ConfigError: naming both, and what to do.
    """
    all_stock = config.engine == "stock" or (config.stock_below_kib or 0.0) >= ALL_STOCK_KIB
    if config.memory_format == "contiguous" and not all_stock:
        raise ConfigError(
            "memory_format=contiguous is for engine=stock: lean blocks work in channels_last (plan=fast "
            "measures both, and chooses)"
        )
    if config.plan == "budget" and config.budget_mib is None:
        raise ConfigError("plan=budget without budget_mib: give the budget in MiB")
    if config.plan != "budget" and config.budget_mib is not None:
        raise ConfigError(
            f"budget_mib={config.budget_mib:g} has no effect with plan={config.plan}: use plan=budget"
        )
    if config.checkpoint == "depthwise" and config.engine == "stock":
        raise ConfigError("checkpoint=depthwise needs engine=lean: use checkpoint none or all")
    micro = config.micro_batch_size
    if micro is not None and config.batch_size < micro:
        raise ConfigError(f"micro_batch_size={micro} is above batch_size={config.batch_size}")
    if micro is not None and config.batch_size % micro:
        raise ConfigError(f"micro_batch_size={micro} does not divide batch_size={config.batch_size}")
    if micro is not None and micro < config.batch_size and config.norm == "batch_norm":
        raise ConfigError(
            f"micro_batch_size={micro} with norm=batch_norm would change the batch's statistics: "
            "use norm frozen_bn or group_norm, or leave micro_batch_size unset"
        )
    if config.norm == "batch_norm" and config.batch_size == 1 and config.pools_to_one_pixel:
        raise ConfigError(
            f"batch_size=1 with norm=batch_norm at {config.resolution} px leaves one value a channel: "
            "use a larger batch or resolution, or norm frozen_bn or group_norm"
        )
    if config.mixes_pictures and config.batch_size == 1:
        name = "mixup_alpha" if config.mixup_alpha else "cutmix_alpha"
        raise ConfigError(
            f"{name}={getattr(config, name):g} has no effect with batch_size=1: a picture is mixed with "
            "another one of its batch: use a larger batch, and micro_batch_size=1 for its memory"
        )
    if config.frozen_weights != "float32" and config.method in ALL_TRAINING_METHODS:
        raise ConfigError(
            f"frozen_weights={config.frozen_weights} has no effect: {config.method} trains every weight, and "
            "they stay float32"
        )
    if config.momentum != type(config).momentum and config.optimizer != "sgd":
        raise ConfigError(
            f"momentum={config.momentum:g} has no effect with optimizer={config.optimizer}: use sgd"
        )
    if config.moments != "float32" and config.optimizer == "sgd":
        raise ConfigError(
            f"moments={config.moments} is for adam and adamw, whose moments it stores: leave it out with "
            "optimizer=sgd"
        )
    if config.gamma != type(config).gamma and config.lr_schedule != "exponential":
        raise ConfigError(
            f"gamma={config.gamma:g} has no effect with lr_schedule={config.lr_schedule}: use exponential"
        )
    if config.warmup_epochs >= config.epochs:
        raise ConfigError(f"warmup_epochs={config.warmup_epochs:g} leaves nothing of epochs={config.epochs}")
    if config.lite_weights is not None and config.method not in LITE_METHODS:
        raise ConfigError(
            f"lite_weights={config.lite_weights} has no effect: {config.method} has no lite residuals, "
            f"{' and '.join(LITE_METHODS)} have"
        )
    if config.method == "Scratch" and config.weights != "none":
        raise ConfigError(
            f"weights={config.weights} with method=Scratch, which starts from random ones: leave out "
            "weights, or use method FT-Full"
        )
    if config.norm == "frozen_bn" and (config.method == "Scratch" or config.weight_standardization):
        what = "method=Scratch" if config.method == "Scratch" else "weight_standardization"
        raise ConfigError(
            f"{what} with norm=frozen_bn: no statistics that could be frozen belong to its weights: "
            "use norm batch_norm or group_norm"
        )
    _check_sparse(config)
    groups = config.parameter_groups
    for name, ratio in dataclasses.asdict(config.lr_ratio).items():
        if ratio not in (1.0, None) and name not in groups:
            raise ConfigError(
                f"lr_ratio.{name}={ratio:g} has no effect: {config.method} trains {', '.join(groups)}"
            )


def _check_sparse(config: "TrainConfig") -> None:
    if config.method != "Sparse":
        for name in SPARSE_FIELDS:
            value = getattr(config, name)
            if value != getattr(type(config), name):
                raise ConfigError(
                    f"{name}={value} has no effect with method={config.method}: use method Sparse"
                )
        return
    if config.channel_ratio is not None:
        require_number("channel_ratio", config.channel_ratio, above=0.0, high=1.0)
    in_parts = config.channel_ratio not in (None, 1) or config.select != "last" or config.plan == "budget"
    if config.weight_standardization and in_parts and config.update_scheme is None:
        raise ConfigError(
            "weight_standardization with convolutions that train in part (channel_ratio, select, "
            "budget): each value of such a weight depends on all of its filter: leave one of them out"
        )
    n_blocks = BLOCKS.get(config.backbone)  # of another package's: `update_scheme` counts them
    for name in ("update_blocks", "bias_blocks"):
        value = getattr(config, name)
        if value is None or isinstance(value, str):
            continue
        require_int(name, value, low=0 if name == "bias_blocks" else 1)
        if n_blocks is not None and value > n_blocks:
            raise ConfigError(f"{name}={value} is above the {n_blocks} blocks of {config.backbone}")
    if config.update_scheme is not None and not isinstance(config.update_scheme, str):
        raise ConfigError(f"update_scheme={config.update_scheme!r} is no text: leave it to select")
