"""How a configuration runs: how many samples at a time, and what backward recomputes.

Neither changes a gradient. A plan sets `micro_batch_size`, `checkpoint` and `stock_below_kib` if the
configuration leaves them open:

- `fast`: the whole batch, nothing recomputed, small blocks as PyTorch's own. As fast as stock or faster.
- `smallest`: the least memory.
- `budget`: the fastest choice whose predicted peak fits `budget_mib`.

Nothing is executed. A rule of two constants orders the choices by speed; a prediction says which fit.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError

Predict = Callable[[TrainConfig], float]
"""Returns the predicted peak, in MiB, of a configuration that leaves no choice to its plan."""

# Calibrated on MobileNetV2 and EfficientNet-Lite0 with one CPU thread (docs/memory.md): a pass costs as much
# more as the work on so many input pixels, and recomputing costs so much more time.
PIXELS_OF_A_PASS = 40_000
TIME_OF_CHECKPOINT = {"none": 1.0, "depthwise": 1.05, "all": 1.3}
SMALL_INPUT_PIXELS = 30_000
"""Pixels of a micro-batch (samples x height x width) under which calls from Python outweigh the work."""
TIME_OF_LEAN_ON_SMALL_INPUT = 1.1
"""Time of such a step if every block runs lean, over that with small blocks as PyTorch's own."""
STOCK_BELOW_KIB = {"small input": 1024.0, "else": 0.0}
PLANNED_FIELDS = ("micro_batch_size", "checkpoint", "stock_below_kib")
"""What a plan sets."""
RECOMPUTED = {"none": "nothing", "depthwise": "depthwise convolutions", "all": "every block"}
"""What backward recomputes under each `checkpoint`, in words."""
NEARLY_LEAST = 1.005
"""A faster choice within this factor of the least memory counts as the least."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A way to run a configuration, with what it needs."""

    micro_batch_size: int
    checkpoint: str
    stock_below_kib: float
    peak_mib: float
    """Predicted peak of a training step, in MiB."""
    slowdown: float
    """Time of a step over that of the configuration's fastest plan: 1 or more."""

    def of(self, config: TrainConfig) -> TrainConfig:
        """Returns `config`, run by this plan."""
        return dataclasses.replace(
            config,
            plan="fast",
            budget_mib=None,
            micro_batch_size=self.micro_batch_size,
            checkpoint=self.checkpoint,
            stock_below_kib=self.stock_below_kib,
        )

    def describe(self) -> str:
        """Returns how it runs, in words."""
        return f"{self.micro_batch_size} at a time, {RECOMPUTED[self.checkpoint]} recomputed"


def not_beaten(plans: Sequence[Plan]) -> list[Plan]:
    """Returns the plans that no other beats in both memory and time, the fastest first."""
    curve: list[Plan] = []
    for plan in sorted(plans, key=lambda plan: (plan.slowdown, plan.peak_mib)):
        if not curve or plan.peak_mib < curve[-1].peak_mib:
            curve.append(plan)
    return curve


def least_within(curve: Sequence[Plan], max_slowdown: float = math.inf) -> Plan:
    """Returns the plan of a curve with the least memory that is at most so much slower than the fastest."""
    return min((plan for plan in curve if plan.slowdown <= max_slowdown), key=lambda plan: plan.peak_mib)


def fastest_within(curve: Sequence[Plan], budget_mib: float) -> Plan | None:
    """Returns the fastest plan of a curve that fits `budget_mib`, None if none does."""
    return next((plan for plan in curve if plan.peak_mib <= budget_mib), None)


class UnderFloorError(ConfigError):
    """No way to run a configuration fits its budget; `smallest` needs the least."""

    def __init__(self, message: str, smallest: TrainConfig) -> None:
        super().__init__(message)
        self.smallest = smallest


def is_planned(config: TrainConfig) -> bool:
    """Whether the configuration leaves nothing to its plan."""
    unset = config.micro_batch_size is None or config.stock_below_kib is None
    return not unset and config.checkpoint != "auto"


def fast_plan(config: TrainConfig) -> TrainConfig:
    """Returns `config` with its open choices set for speed."""
    return _planned(
        config,
        config.samples_in_memory,
        "none" if config.checkpoint == "auto" else config.checkpoint,
        STOCK_BELOW_KIB["small input" if _is_small(config) else "else"],
    )


def resolve(config: TrainConfig, predict: Predict) -> TrainConfig:
    """Returns `config` with its open choices set by its plan.

    Raises:
        UnderFloorError: if no choice fits `budget_mib`. The message names the least that any choice needs.
    """
    fast = fast_plan(config)
    if config.plan == "fast":
        return fast
    if config.plan == "smallest":
        return _smallest(config, predict)
    assert config.budget_mib is not None
    if predict(fast) <= config.budget_mib:
        return fast
    smallest = _smallest(config, predict)
    floor_mib = predict(smallest)
    if floor_mib > config.budget_mib:
        raise UnderFloorError(
            f"budget_mib={config.budget_mib:g} is under the least that {config.method} with {config.norm} on "
            f"{config.backbone} needs at {config.resolution} px: {floor_mib:.1f} MiB with "
            f"{describe(smallest)}",
            dataclasses.replace(smallest, plan="smallest", budget_mib=None),
        )
    return next(choice for choice in choices(config) if predict(choice) <= config.budget_mib)


def choices(config: TrainConfig) -> list[TrainConfig]:
    """Returns every way to run `config` that its plan may choose, the fastest first."""
    micros = [config.samples_in_memory]
    if config.micro_batch_size is None and config.norm != "batch_norm":  # whose statistics are the batch's
        micros = [n for n in range(1, config.batch_size + 1) if config.batch_size % n == 0]
    checkpoints: tuple[str, ...] = (config.checkpoint,)
    if config.checkpoint == "auto":
        # Stock has no part of a block to recompute.
        checkpoints = ("none", "all") if config.engine == "stock" else ("none", "depthwise", "all")
    found = [_planned(config, micro, checkpoint, 0.0) for micro in micros for checkpoint in checkpoints]
    return sorted(found, key=relative_time)


def relative_time(config: TrainConfig) -> float:
    """Returns the time of a planned step, relative to that of a large batch in one pass: an estimate."""
    pixels = config.samples_in_memory * config.resolution**2
    lean = config.engine == "lean" and config.stock_below_kib == 0 and _is_small(config)
    time = TIME_OF_CHECKPOINT[config.checkpoint] * (1 + PIXELS_OF_A_PASS / pixels)
    return time * TIME_OF_LEAN_ON_SMALL_INPUT if lean else time


def describe(config: TrainConfig) -> str:
    """Returns a planned configuration's way to run, in words."""
    return f"micro-batches of {config.micro_batch_size}, {RECOMPUTED[config.checkpoint]} recomputed"


def _is_small(config: TrainConfig) -> bool:
    return config.samples_in_memory * config.resolution**2 < SMALL_INPUT_PIXELS


def _planned(config: TrainConfig, micro: int, checkpoint: str, stock_below_kib: float) -> TrainConfig:
    if config.stock_below_kib is not None:
        stock_below_kib = config.stock_below_kib
    return dataclasses.replace(
        config, micro_batch_size=micro, checkpoint=checkpoint, stock_below_kib=stock_below_kib
    )


def _smallest(config: TrainConfig, predict: Predict) -> TrainConfig:
    every = choices(config)
    # Fewer samples at a time need less memory, except for gradients: with two or more passes they live beside
    # activations.
    micros = sorted({choice.samples_in_memory for choice in every})
    ends = {micros[0], micros[-1]}
    peaks = {choice: predict(choice) for choice in every if choice.samples_in_memory in ends}
    return next(choice for choice, peak in peaks.items() if peak <= NEARLY_LEAST * min(peaks.values()))
