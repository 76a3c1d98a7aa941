"""Training steps that can be called repeatedly, and their times in turns."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from tinytl.build import build_model
from tinytl.config.plan import releases_gradients
from tinytl.config.train_config import TrainConfig
from tinytl.memory.measure import PeakMeter
from tinytl.step_time.measure import seconds_after_itself
from tinytl.training.freed_memory import keep_freed_memory
from tinytl.training.step import InputNormalizer, build_optimizer, training_step

Name = TypeVar("Name")


class ContiguousNormalizer(InputNormalizer):
    """The same for nets with contiguous weights: makes no channels_last copy."""

    def __call__(self, images: Tensor) -> Tensor:
        """Returns `(image / 255 - mean) / std`, `(N, 3, H, W)`, contiguous."""
        return images.to(torch.float32).sub_(self.mean).div_(self.std)


def prepare_step(config: TrainConfig, channels_last: bool = True) -> tuple[Callable[[], None], PeakMeter]:
    """Returns a step that was taken once, and a meter for one more."""
    torch.manual_seed(0)
    net = build_model(config).net
    if not channels_last:
        net = net.to(memory_format=torch.contiguous_format)
    optimizer = build_optimizer(net, config)
    normalize = (InputNormalizer if channels_last else ContiguousNormalizer)(config, torch.device("cpu"))
    shape = (config.batch_size, 3, config.resolution, config.resolution)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    images = torch.randint(0, 256, shape, dtype=torch.uint8).contiguous(memory_format=layout)
    labels = torch.zeros(config.batch_size, dtype=torch.int64)

    def step() -> None:
        training_step(
            net, optimizer, normalize, images, labels,
            micro_batch_size=config.samples_in_memory, label_smoothing=config.label_smoothing,
            releases_gradients=releases_gradients(config),
        )  # fmt: skip

    step()
    return step, PeakMeter(net, optimizer, (images, labels))


def measured_peak_mib(config: TrainConfig, channels_last: bool = True) -> float:
    """Measures a steady-state step's peak."""
    step, meter = prepare_step(config, channels_last)
    with meter:
        step()
    return meter.peak_mib


def median_times(steps: Mapping[Name, Callable[[], None]], rounds: int) -> dict[Name, float]:
    """Returns the median CPU time of each step, in seconds; they take turns, so that a busy machine is
    busy for all. Each follows itself, as in a run: after another one it finds the caches of that.
    """
    keep_freed_memory()
    times: dict[Name, list[float]] = {name: [] for name in steps}
    for n in range(rounds):
        for name in list(steps) if n % 2 == 0 else reversed(steps):
            times[name].append(seconds_after_itself(steps[name], time.process_time))
    return {name: statistics.median(seconds) for name, seconds in times.items()}
