"""How the learning rate changes over a run: warm-up, then a cosine, an exponential decay, or nothing."""

import math

from tinytl.config.train_config import TrainConfig


def lr_factor(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Returns the factor of `base_lr` at `step` (from 0) of the run.

    Warm-up rises in equal steps to 1. After it, `cosine` falls from 1 towards 0 at the run's last step,
    changing at every step; `exponential` is multiplied by `gamma` after each epoch. Source: cosine,
    Loshchilov and Hutter 2017; exponential, `torch.optim.lr_scheduler.ExponentialLR`.
    """
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    step -= warmup_steps
    if config.lr_schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / (config.epochs * steps_per_epoch - warmup_steps)))
    if config.lr_schedule == "exponential":
        return float(config.gamma ** (step // steps_per_epoch))
    return 1.0
