"""How much a budget lets method Sparse train: as many parts of convolutions as fit it, in a given order."""

import dataclasses
from collections.abc import Callable, Sequence

from tinytl.config.plan import UnderFloorError
from tinytl.config.train_config import TrainConfig
from tinytl.networks.update_scheme import Part, layers_of, scheme_of_parts

PeakOf = Callable[[TrainConfig], float]
"""Returns the predicted peak of a planned configuration in MiB."""


def is_open(config: TrainConfig) -> bool:
    """Whether a budget, and neither `update_blocks` nor `channel_ratio`, says how much trains."""
    return config.plan == "budget" and config.update_blocks is None and config.channel_ratio is None


def filled(config: TrainConfig, order: Sequence[Part], peak_of: PeakOf) -> TrainConfig:
    """Returns `config` with the scheme of the most parts, in their order, with which it fits its budget.

    A part more never needs less memory, so some ten predictions find it.

    Raises:
        UnderFloorError: if not even the first part fits.
    """
    assert config.budget_mib is not None
    fits, too_many = 0, len(order) + 1
    while too_many - fits > 1:
        n_parts = (fits + too_many) // 2
        if peak_of(_least(_trains(config, order[:n_parts]))) <= config.budget_mib:
            fits = n_parts
        else:
            too_many = n_parts
    if fits == 0:
        first = _least(_trains(config, order[:1]))
        raise UnderFloorError(
            f"budget_mib={config.budget_mib:g} is under the least that Sparse with {config.norm} on "
            f"{config.backbone} needs at {config.resolution} px: {peak_of(first):.1f} MiB with a part of one "
            "convolution",
            dataclasses.replace(first, plan="smallest", budget_mib=None),
        )
    return _trains(config, order[:fits])


def _trains(config: TrainConfig, parts: Sequence[Part]) -> TrainConfig:
    scheme = scheme_of_parts(parts, config)
    return dataclasses.replace(config, update_scheme=scheme.text(layers_of(config)))


def _least(config: TrainConfig) -> TrainConfig:
    """Returns `config` as it needs about the least memory; its budget chooses the plan afterwards."""
    micro = config.batch_size if config.norm == "batch_norm" else 1
    return dataclasses.replace(
        config,
        plan="fast",
        budget_mib=None,
        micro_batch_size=config.micro_batch_size or micro,
        checkpoint="none" if config.checkpoint == "auto" else config.checkpoint,
        stock_below_kib=config.stock_below_kib or 0.0,
    )
