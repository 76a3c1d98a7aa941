"""The largest batch whose step fits a memory budget."""

import dataclasses
from typing import Any

from torch import nn

from tinytl.config.plan import lean_plan
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError
from tinytl.memory.any_step import largest_batch, most_that_fit
from tinytl.memory.predict import predict_memory
from tinytl.memory.prediction import MemoryPrediction
from tinytl.memory_efficient.batch import Batch
from tinytl.networks.backbones import needs_two_samples


def max_batch_size(
    of: TrainConfig | nn.Module, budget_mib: float, example: Batch | None = None, **step: Any
) -> int:
    """Returns the largest batch (up to 65,535) whose step fits `budget_mib`, all else as in a configuration.

    Of a module, it is the largest batch like `example`, which only a module needs; `step` is then as in
    `any_step.predict_step`: the optimiser and the loss.

    Under plan `fast` the whole batch is in memory at once, in lean blocks; if `micro_batch_size` is set, the
    batch is a multiple of it and costs only its images. Under plan `budget`, a batch fits if its smallest
    plan does.

    Raises:
        ConfigError: if not even the smallest batch fits, naming what it needs.
        TypeError: for a module without an example, or a configuration with one.
    """
    if isinstance(of, nn.Module):
        if example is None:
            raise TypeError("max_batch_size of a module needs an example: a batch of any size")
        return largest_batch(of, example, budget_mib, **step)
    if example is not None or step:
        raise TypeError("max_batch_size of a configuration takes no example: it says what a batch is")
    config = of
    if config.plan == "budget":
        config = dataclasses.replace(config, plan="smallest", budget_mib=None)
    if config.norm == "batch_norm":  # has no micro-batches
        config = dataclasses.replace(config, micro_batch_size=None)
    multiple = config.micro_batch_size or 1
    fewest = 2 if config.norm == "batch_norm" and needs_two_samples(config) else 1

    def predict(n_steps: int) -> MemoryPrediction:
        sized = dataclasses.replace(config, batch_size=n_steps * multiple)
        return predict_memory(lean_plan(sized) if sized.plan == "fast" else sized)

    smallest = predict(fewest)
    if smallest.peak_mib > budget_mib:
        raise ConfigError(
            f"budget_mib={budget_mib:g} is under what batch_size={fewest * multiple} needs: "
            f"{smallest.peak_mib:.1f} MiB {smallest.what_sets_it()}"
        )
    return most_that_fit(lambda n_steps: predict(n_steps).peak_mib <= budget_mib, fewest) * multiple
