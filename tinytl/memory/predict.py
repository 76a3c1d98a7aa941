"""Peak memory of a training step, predicted by running the step on fake tensors.

A dispatch mode follows every storage from its allocation to its release. Nothing is computed and no weight
is read, so a prediction depends on the configuration alone.
"""

import dataclasses
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedOperatorException,
)

from tinytl.build import build_model
from tinytl.config.plan import UnderFloorError, fast_plan, is_planned, resolve
from tinytl.config.train_config import FIELDS_WITHOUT_MEMORY, TrainConfig
from tinytl.device import resolve_device
from tinytl.errors import ConfigError
from tinytl.memory.fake_network import build_on_meta, to_fake_cpu_
from tinytl.memory.measure import PeakMeter, state_tensors
from tinytl.memory.storage_tracker import MemoryPrediction, StorageTracker
from tinytl.training.mixed_precision import MixedPrecision
from tinytl.training.step import InputNormalizer, build_optimizer, training_step

CUDA_BLOCK_BYTES = 512
"""CUDA's caching allocator rounds every block up to this."""

MOST_STEPS = 1 << 16
"""The largest batch that `max_batch_size` tries."""

WORTH_A_PROCESS = 6
"""Predictions that need as much time as starting a process."""

_NOT_ON_FAKE_TENSORS = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)

_PREDICTED: dict[TrainConfig, MemoryPrediction] = {}
_WITHOUT_EFFECT = {name: getattr(TrainConfig(), name) for name in FIELDS_WITHOUT_MEMORY} | {"weights": "none"}


def predict_memory(config: TrainConfig) -> MemoryPrediction:
    """Predicts the peak of a steady-state training step of `config` (`num_classes` set), in about a second.

    The plan of `config` sets its open choices. Results are cached by the fields on which memory depends.

    Raises:
        ConfigError: for `num_classes` unset, `n_groups` that does not divide (naming the block), a budget
            that nothing fits, or an operation of the network that does not run on fake tensors.
    """
    key = _key(resolve_plan(config))
    if key not in _PREDICTED:
        _PREDICTED[key] = _predict(key)
    return _PREDICTED[key]


def predict_memories(configs: Sequence[TrainConfig], processes: int | None = None) -> list[MemoryPrediction]:
    """Predicts several configurations, each in one of `processes` (default: one per core, at most 8).

    A process needs some seconds to start, so a few predictions are made in this one, one after the other. So
    are all if processes cannot start (a script needs `if __name__ == "__main__":` for that).

    Raises:
        ConfigError: as `predict_memory` does, for any of them.
    """
    planned = [fast_plan(config) if config.plan == "fast" else config for config in configs]
    missing = list(dict.fromkeys(c for c in planned if not is_planned(c) or _key(c) not in _PREDICTED))
    processes = min(processes or os.cpu_count() or 1, 8, len(missing) // WORTH_A_PROCESS)
    if processes > 1:
        spawn = multiprocessing.get_context("spawn")
        try:
            with ProcessPoolExecutor(processes, spawn, torch.set_num_threads, (1,)) as pool:
                for found in pool.map(_predict_elsewhere, missing):
                    _PREDICTED.update(found)
        except BrokenProcessPool:
            pass
    return [predict_memory(config) for config in configs]


def _predict_elsewhere(config: TrainConfig) -> dict[TrainConfig, MemoryPrediction]:
    """Returns all predictions of this process, those of its plans included, so that none is repeated."""
    predict_memory(config)
    return _PREDICTED


def _key(config: TrainConfig) -> TrainConfig:
    """Returns a planned configuration without the fields that do not affect its memory."""
    method = "FT-Full" if config.method == "Scratch" else config.method  # the same from other weights
    return dataclasses.replace(config, plan="fast", budget_mib=None, **_WITHOUT_EFFECT, method=method)


def resolve_plan(config: TrainConfig) -> TrainConfig:
    """Returns `config` with `micro_batch_size`, `checkpoint` and `stock_below_kib` as its plan sets them.

    Raises:
        ConfigError: if nothing fits `budget_mib`, naming the least that the configuration needs.
    """
    if is_planned(config) and config.plan != "budget":
        return config

    def predict(choice: TrainConfig) -> float:
        return predict_memory(dataclasses.replace(choice, plan="fast", budget_mib=None)).peak_mib

    try:
        return resolve(config, predict)
    except UnderFloorError as error:
        raise ConfigError(f"{error}, {predict_memory(error.smallest).what_sets_it()}") from None


def max_batch_size(config: TrainConfig, budget_mib: float) -> int:
    """Returns the largest `batch_size` (up to 65,535) whose step fits `budget_mib`, all else as in `config`.

    Under plan `fast` the whole batch is in memory at once; if `micro_batch_size` is set, the batch is a
    multiple of it and costs only its images. Under plan `budget`, a batch fits if its smallest plan does.

    Raises:
        ConfigError: if not even the smallest batch fits, naming what it needs.
    """
    if config.plan == "budget":
        config = dataclasses.replace(config, plan="smallest", budget_mib=None)
    if config.norm == "batch_norm":  # has no micro-batches
        config = dataclasses.replace(config, micro_batch_size=None)
    step = config.micro_batch_size or 1
    fewest = 2 if config.norm == "batch_norm" and config.pools_to_one_pixel else 1

    def peak(n_steps: int) -> float:
        return predict_memory(dataclasses.replace(config, batch_size=n_steps * step)).peak_mib

    smallest = predict_memory(dataclasses.replace(config, batch_size=fewest * step))
    if smallest.peak_mib > budget_mib:
        raise ConfigError(
            f"budget_mib={budget_mib:g} is under what batch_size={fewest * step} needs: "
            f"{smallest.peak_mib:.1f} MiB {smallest.what_sets_it()}"
        )
    low, high = fewest, 2 * fewest
    while high < MOST_STEPS and peak(high) <= budget_mib:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if peak(middle) <= budget_mib else (low, middle)
    return low * step


def stock_inference_peak_mib(config: TrainConfig) -> float:
    """Predicts the peak of PyTorch's own inference of `batch_size` images, in MiB."""
    config = dataclasses.replace(
        config,
        method="FT-Last",
        norm="frozen_bn",
        weight_standardization=False,
        micro_batch_size=None,
        engine="stock",
        plan="fast",
        budget_mib=None,
        checkpoint="none",
        stock_below_kib=0.0,
        **_WITHOUT_EFFECT,
    )
    return _predict_inference(config)


def measure_memory(config: TrainConfig) -> float:
    """Runs two steps of `config` for real, on random weights and images; returns the second's peak in MiB."""
    device = resolve_device(config.device)
    torch.manual_seed(config.seed)
    config = dataclasses.replace(resolve_plan(config), weights="none", lite_weights=None)
    net = build_model(config).net.to(device)
    optimizer, step = _step(config, net, device)
    images, labels = _batch(config, device)
    step(images, labels)
    with PeakMeter(net, optimizer, (images, labels)) as meter:
        step(images, labels)
    return meter.peak_mib


def _predict(config: TrainConfig) -> MemoryPrediction:
    device = torch.device("cpu")
    net = build_on_meta(config)
    with FakeTensorMode():
        to_fake_cpu_(net)
        optimizer, step = _step(config, net, device)
        images, labels = _batch(config, device)
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.empty_like(parameter)
        optimizer.step()  # creates the moments: a steady-state step has them from its start
        optimizer.zero_grad(set_to_none=True)
        tracker = _tracker(config)
        tracker.add_existing("parameters", list(net.parameters()))
        tracker.add_existing("optimizer", state_tensors(nn.Identity(), optimizer))
        tracker.add_existing("batch_and_buffers", [*net.buffers(), images, labels])
        hooks = [
            parameter.register_post_accumulate_grad_hook(tracker.label_gradient)
            for parameter in net.parameters()
            if parameter.requires_grad
        ]
        # All micro-batches after the first are alike: gradients exist, and are added to.
        rows = slice(0, 2 * config.samples_in_memory)
        with tracker.modules, tracker:
            try:
                step(images[rows], labels[rows], after_forward=tracker.label_saved)
            except _NOT_ON_FAKE_TENSORS as error:
                raise ConfigError(
                    f"{error.func} at {tracker.place()} does not run on fake tensors, so the memory of "
                    f"{config.backbone} cannot be predicted: compute it from shapes, not from values"
                ) from None
        for hook in hooks:
            hook.remove()
    return tracker.prediction()


@lru_cache(maxsize=256)
def _predict_inference(config: TrainConfig) -> float:
    net = build_on_meta(config).eval()
    with FakeTensorMode(), torch.no_grad():
        to_fake_cpu_(net)
        images, _ = _batch(config, torch.device("cpu"))
        normalize = InputNormalizer(config, torch.device("cpu"))
        tracker = _tracker(config)
        tracker.add_existing("parameters", list(net.parameters()))
        tracker.add_existing("batch_and_buffers", [*net.buffers(), images])
        with tracker.modules, tracker:
            net(normalize(images))
    return tracker.prediction().peak_mib


def _tracker(config: TrainConfig) -> StorageTracker:
    cuda = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    return StorageTracker(CUDA_BLOCK_BYTES, cpu_kernels=False) if cuda else StorageTracker()


def _step(
    config: TrainConfig, net: nn.Module, device: torch.device
) -> tuple[torch.optim.Optimizer, Callable[..., Any]]:
    optimizer = build_optimizer(net, config)
    normalize = InputNormalizer(config, device)
    precision = MixedPrecision(config.precision, device)

    def step(images: Tensor, labels: Tensor, after_forward: Callable[[], None] | None = None) -> None:
        training_step(
            net,
            optimizer,
            normalize,
            images,
            labels,
            micro_batch_size=config.samples_in_memory,
            label_smoothing=config.label_smoothing,
            precision=precision,
            after_forward=after_forward,
        )

    return optimizer, step


def _batch(config: TrainConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    shape = (config.batch_size, 3, config.resolution, config.resolution)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    labels = torch.zeros(config.batch_size, dtype=torch.int64, device=device)
    return images.contiguous(memory_format=torch.channels_last), labels
