"""A configuration's curve: the execution plans that no other one beats in both memory and time.

A plan (`tinytl.config.plan.PLANNED_FIELDS`) changes no gradient. So accuracy belongs to the configuration,
and memory and time to the pair of configuration and plan.
"""

import dataclasses
import math

from tinytl.config.plan import Plan, choices, formats, is_planned, not_beaten
from tinytl.config.train_config import TrainConfig
from tinytl.memory.predict import needs_of, predict_ahead, resolve_plan

RECOMPUTES_FOR_NOTHING = 0.995
"""Recomputation that leaves more than this part of the memory is not looked at further."""


def memory_curve(config: TrainConfig) -> list[Plan]:
    """Returns the plans of `config` (`num_classes` set) that no other beats, the fastest first.

    Memory falls and time rises along the list. What `config` gives of `PLANNED_FIELDS` stays in every plan.
    Memory is predicted; time is estimated from what was measured on this machine.

    Raises:
        ConfigError: as `predict_memory`.
    """
    config = dataclasses.replace(config, plan="fast", budget_mib=None)
    if not is_planned(config):
        predict_ahead([*formats(config), *choices(config)])
    found = [config] if is_planned(config) else [*formats(config), *_worth_predicting(config)]
    fastest = min(needs_of(choice).seconds for choice in found)
    return not_beaten([_plan(choice, fastest) for choice in found])


def curve_under_plan(config: TrainConfig) -> list[Plan]:
    """Returns the curve of `config`, or, if its `plan` is not `fast`, the one plan that this rule chooses.

    Raises:
        ConfigError: as `resolve_plan`.
    """
    return memory_curve(config if config.plan == "fast" else resolve_plan(config))


def _plan(choice: TrainConfig, fastest_s: float) -> Plan:
    assert choice.micro_batch_size is not None and choice.stock_below_kib is not None
    needs = needs_of(choice)
    return Plan(
        micro_batch_size=choice.micro_batch_size,
        checkpoint=choice.checkpoint,
        stock_below_kib=choice.stock_below_kib,
        slice_mib=choice.slice_mib,
        cuda_graph=choice.cuda_graph,
        memory_format=choice.memory_format,
        peak_memory_mib=needs.peak_mib,
        slowdown=needs.seconds / fastest_s,
    )


def _worth_predicting(config: TrainConfig) -> list[TrainConfig]:
    """Returns the choices that may lie on the curve.

    Recomputation, or smaller slices, that save nothing with most samples in memory, nor with fewest, save
    nothing between.
    """
    found = choices(config)
    ends = {size([choice.samples_in_memory for choice in found]) for size in (min, max)}
    kept = set()
    for samples in ends:
        least = math.inf
        for choice in found:  # what recomputes least first
            if choice.samples_in_memory == samples:
                peak_mib = needs_of(choice).peak_mib
                if peak_mib < RECOMPUTES_FOR_NOTHING * least:
                    kept.add((choice.checkpoint, choice.slice_mib))
                least = min(least, peak_mib)
    return [
        choice
        for choice in found
        if (choice.checkpoint, choice.slice_mib) in kept or choice.samples_in_memory in ends
    ]
