"""The time of a step, measured: the truth that an estimate is compared with."""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn

from tinytl.build import build_model
from tinytl.config.train_config import TrainConfig
from tinytl.device import resolve_device, with_threads
from tinytl.training.captured_step import CapturedStep, planned_step
from tinytl.training.freed_memory import freed_memory_kept
from tinytl.training.mixed_precision import MixedPrecision
from tinytl.training.step import InputNormalizer, build_optimizer, random_batch


def prepared_step(
    config: TrainConfig, change: Callable[[nn.Module], Any] = lambda net: net, *, waits: bool = True
) -> Callable[[], Any]:
    """Returns a training step of a planned `config` on random weights and images, to be called repeatedly.

    `change` returns the network to train, made of that of `config`. Unless it `waits`, a GPU may still be at
    a step that has returned.
    """
    device = resolve_device(config.device)
    config = dataclasses.replace(config, weights="none", lite_weights=None)
    net = build_model(config).net.to(device)
    optimizer = build_optimizer(net, config)
    normalize, precision = InputNormalizer(config, device), MixedPrecision(config.precision, device)
    step = planned_step(config, change(net), optimizer, normalize, precision)
    batch = random_batch(config, device)
    if isinstance(step, CapturedStep):  # is recorded in its second call
        step(*batch)
        step(*batch)

    def run() -> None:
        step(*batch)
        if waits and device.type == "cuda":
            torch.cuda.synchronize()

    return run


def measured_seconds(configs: Sequence[TrainConfig], rounds: int = 3, threads: int = 1) -> list[float]:
    """Runs steps of planned configurations (`num_classes` set) in turns; returns each one's median time.

    Infinity for those for which a GPU's memory has no room.
    """
    steps: dict[int, Callable[[], Any]] = {}
    times: list[list[float]] = [[] for _ in configs]
    with as_in_a_run(threads):
        for index, config in enumerate(configs):
            with suppress(torch.OutOfMemoryError):
                steps[index] = prepared_step(config)
        for _ in range(rounds):
            for index in list(steps):
                try:
                    times[index].append(seconds_after_itself(steps[index]))
                except torch.OutOfMemoryError:
                    del steps[index]
    return [statistics.median(times[index]) if index in steps else math.inf for index in range(len(configs))]


def seconds_after_itself(step: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Runs a step twice and returns the time of the second: after another one it finds the caches of that, in
    a run those of its own kind.
    """
    step()
    start = clock()
    step()
    return clock() - start


@contextmanager
def as_in_a_run(threads: int) -> Iterator[None]:
    """Inside of it torch has so many threads, and freed memory stays in the process, as in a run.

    Afterwards torch has as many threads, and the random numbers are, as before.
    """
    state = torch.get_rng_state()
    try:
        with with_threads(threads), freed_memory_kept():
            yield
    finally:
        torch.set_rng_state(state)
