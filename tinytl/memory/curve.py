"""A configuration's curve: the execution plans that no other one beats in both memory and time.

A plan (`micro_batch_size`, `checkpoint`, `stock_below_kib`) changes no gradient. So accuracy belongs to the
configuration, and memory and time to the pair of configuration and plan.
"""

import dataclasses
import math

from tinytl.config.plan import Plan, choices, fast_plan, is_planned, not_beaten, relative_time
from tinytl.config.train_config import TrainConfig
from tinytl.memory.predict import predict_memory, resolve_plan

RECOMPUTES_FOR_NOTHING = 0.995
"""Recomputation that leaves more than this part of the memory is not looked at further."""


def memory_curve(config: TrainConfig) -> list[Plan]:
    """Returns the plans of `config` (`num_classes` set) that no other beats, the fastest first.

    Memory falls and time rises along the list. What `config` gives (`micro_batch_size`, `checkpoint`,
    `stock_below_kib`) stays in every plan. Memory is predicted; time is an estimate.

    Raises:
        ConfigError: as `predict_memory`.
    """
    config = dataclasses.replace(config, plan="fast", budget_mib=None)
    if is_planned(config):
        return [_plan(config, 1.0)]
    fast = fast_plan(config)
    fastest = relative_time(fast)
    found = [_plan(fast, 1.0)]
    for choice in _worth_predicting(config):
        found.append(_plan(choice, relative_time(choice) / fastest))
    return not_beaten(found)


def curve_under_plan(config: TrainConfig) -> list[Plan]:
    """Returns the curve of `config`, or, if its `plan` is not `fast`, the one plan that this rule chooses.

    Raises:
        ConfigError: as `resolve_plan`.
    """
    return memory_curve(config if config.plan == "fast" else resolve_plan(config))


def _plan(choice: TrainConfig, slowdown: float) -> Plan:
    assert choice.micro_batch_size is not None and choice.stock_below_kib is not None
    return Plan(
        micro_batch_size=choice.micro_batch_size,
        checkpoint=choice.checkpoint,
        stock_below_kib=choice.stock_below_kib,
        peak_mib=predict_memory(choice).peak_mib,
        slowdown=slowdown,
    )


def _worth_predicting(config: TrainConfig) -> list[TrainConfig]:
    """Returns the choices that may lie on the curve.

    Recomputation that saves nothing with most samples in memory, nor with fewest, saves nothing between.
    """
    found = choices(config)
    ends = {size([choice.samples_in_memory for choice in found]) for size in (min, max)}
    kept = set()
    for samples in ends:
        least = math.inf
        for choice in found:  # the fastest first
            if choice.samples_in_memory == samples:
                peak_mib = predict_memory(choice).peak_mib
                if peak_mib < RECOMPUTES_FOR_NOTHING * least:
                    kept.add(choice.checkpoint)
                least = min(least, peak_mib)
    return [choice for choice in found if choice.checkpoint in kept or choice.samples_in_memory in ends]
