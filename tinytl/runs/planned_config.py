"""A configuration as one process runs it on a data set: its open choices are made, nothing is built yet."""

import dataclasses
from functools import partial

import torch

from tinytl.config.plan import PLANNED_FIELDS, is_planned
from tinytl.config.train_config import TrainConfig
from tinytl.data.batches import steps_per_epoch
from tinytl.data.load import DataSplits
from tinytl.memory.predict import resolve_plan
from tinytl.networks.backbones.weights import Weights
from tinytl.selection.choose import chosen
from tinytl.step_time.fastest_format import fastest_format
from tinytl.training.data_parallel import ALONE, Ranks, share_of_one


def planned_config(
    config: TrainConfig, data: DataSplits, weights: Weights | None = None, ranks: Ranks = ALONE
) -> TrainConfig:
    """Returns `config` for `data`'s classes, with its plan's choices filled in, as one process runs it.

    Method Sparse may look at the images first, see `tinytl.selection`. A long run on small inputs takes some
    steps first, see `fastest_format`.

    Raises:
        ConfigError: for a budget that nothing fits, or a share of the batch that does not divide.
    """
    config = dataclasses.replace(config, num_classes=len(data.classes))
    if config.method == "Sparse":
        config = ranks.agreed(partial(chosen, config, data, weights))
    # A search resolved the plan, and checked it against the budget, when it asked for the trial.
    planned = share_of_one(config, ranks)
    if not is_planned(planned):
        planned = _fastest_format(planned, data, ranks) or resolve_plan(planned)
    return dataclasses.replace(config, **{name: getattr(planned, name) for name in PLANNED_FIELDS})


def _fastest_format(config: TrainConfig, data: DataSplits, ranks: Ranks) -> TrainConfig | None:
    """Returns `config` as it was measured to run fastest, None if an estimate has to do."""
    if config.plan != "fast" or ranks.world_size > 1:  # several processes would measure one another
        return None
    n_steps = config.epochs * steps_per_epoch(len(data.train), config.batch_size, drop_single=False)
    return fastest_format(config, n_steps, torch.get_num_threads())
