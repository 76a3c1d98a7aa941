"""How much a budget lets method Sparse train: as many parts of convolutions as fit it, in a given order."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from tinytl.config.plan import UnderFloorError
from tinytl.config.train_config import TrainConfig
from tinytl.networks.update_scheme import Layer, Part, layers_of, scheme_of_parts

PeakOf = Callable[[TrainConfig], float]
"""Returns the predicted peak of a planned configuration in MiB."""


def is_open(config: TrainConfig) -> bool:
    """Whether a budget, and neither `update_blocks` nor `channel_ratio`, says how much trains."""
    return config.plan == "budget" and config.update_blocks is None and config.channel_ratio is None


def filled(config: TrainConfig, order: Sequence[Part], budget_mib: float, peak_of: PeakOf) -> TrainConfig:
    """Returns `config` with the scheme of the most parts, in their order, with which it fits `budget_mib`.

    Convolutions are left out of which not one part fits alone, such as those too far from the end: each is
    tried. A part more never needs less memory, so a few predictions more find how many fit together.

    Raises:
        UnderFloorError: if not even the part that needs the least fits alone.
    """

    def fits(parts: Sequence[Part]) -> bool:
        return any(peak_of(way) <= budget_mib for way in _leanest(_trains(config, parts)))

    first = _first_parts(order)
    alone = {layer for layer, part in first.items() if fits([part])}
    if not alone:
        raise _under_floor(config, first.values(), budget_mib, peak_of)
    within = [part for part in order if part.layer in alone]
    return _trains(config, within[: max(1, _most(len(within), lambda n: fits(within[:n])))])


def check_floor(config: TrainConfig, parts: Iterable[Part], budget_mib: float, peak_of: PeakOf) -> None:
    """Checks that a budget holds some part alone, in whatever order they will come.

    Raises:
        UnderFloorError: if it holds none.
    """
    first = _first_parts(parts)
    each = (_trains(config, [part]) for part in first.values())
    if not any(peak_of(way) <= budget_mib for trains in each for way in _leanest(trains)):
        raise _under_floor(config, first.values(), budget_mib, peak_of)


def _first_parts(parts: Iterable[Part]) -> dict[Layer, Part]:
    first: dict[Layer, Part] = {}
    for part in parts:
        first.setdefault(part.layer, part)
    return first


def _under_floor(
    config: TrainConfig, parts: Iterable[Part], budget_mib: float, peak_of: PeakOf
) -> UnderFloorError:
    each = (_trains(config, [part]) for part in parts)
    least = min(each, key=lambda trains: least_of(trains, peak_of))
    return UnderFloorError(
        f"budget_mib={budget_mib:g} is under the least that Sparse with {config.norm} on "
        f"{config.backbone} needs at {config.resolution} px: {least_of(least, peak_of):.1f} MiB with a part "
        "of one convolution",
        dataclasses.replace(least, plan="smallest", budget_mib=None),
    )


def least_of(config: TrainConfig, peak_of: PeakOf) -> float:
    """Returns about the least that a configuration needs in MiB, of method Sparse and with a scheme."""
    return min(map(peak_of, _leanest(config)))


def _most(n: int, fits: Callable[[int], bool]) -> int:
    """Returns the largest number up to `n` that fits, if what is smaller fits too; 0 if none does."""
    most, too_many = 0, n + 1
    while too_many - most > 1:
        middle = (most + too_many) // 2
        most, too_many = (middle, too_many) if fits(middle) else (most, middle)
    return most


def _trains(config: TrainConfig, parts: Sequence[Part]) -> TrainConfig:
    scheme = scheme_of_parts(parts, config)
    return dataclasses.replace(config, update_scheme=scheme.text(layers_of(config)))


def _leanest(config: TrainConfig) -> list[TrainConfig]:
    """Returns the two ways to run that need about the least; a budget chooses the plan afterwards.

    One sample at a time, nothing recomputed; and the whole batch, every block recomputed.
    """
    whole = config.norm == "batch_norm" or config.micro_batch_size is not None
    samples = config.samples_in_memory if whole else 1
    ways = [(samples, "none"), (config.samples_in_memory, "all")]
    if config.checkpoint != "auto":
        ways = [(samples, config.checkpoint)]
    return [
        dataclasses.replace(
            config,
            plan="fast",
            budget_mib=None,
            micro_batch_size=n,
            checkpoint=checkpoint,
            stock_below_kib=config.stock_below_kib or 0.0,
        )
        for n, checkpoint in ways
    ]
