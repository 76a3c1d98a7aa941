"""Peak memory of a training step, known before it runs: the step is run on fake tensors.

A dispatch mode follows every storage from its allocation to its release. Nothing is computed and no weight
is read, so a prediction depends on the configuration alone.
"""

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tinytl.build import build_model
from tinytl.config import FIELDS_WITHOUT_MEMORY, TrainConfig
from tinytl.measure import PeakMeter, state_tensors
from tinytl.storage_tracker import MemoryPrediction, StorageTracker
from tinytl.training_step import InputNormalizer, build_optimizer, training_step

CUDA_BLOCK_BYTES = 512
"""CUDA's caching allocator rounds every block up to this."""

_WITHOUT_EFFECT = {name: getattr(TrainConfig(), name) for name in FIELDS_WITHOUT_MEMORY} | {"weights": "none"}


def predict_memory(config: TrainConfig) -> MemoryPrediction:
    """Predicts the peak of a steady-state training step of `config` (`num_classes` set), in about a second.

    Cached by the fields on which memory depends.

    Raises:
        ConfigError: for `num_classes` unset, or `n_groups` that does not divide (naming the block).
    """
    return _predict(dataclasses.replace(config, **_WITHOUT_EFFECT))


def stock_inference_peak_mib(config: TrainConfig) -> float:
    """Predicts the peak of PyTorch's own inference of `batch_size` images, in MiB."""
    config = dataclasses.replace(
        config, method="FT-Last", norm="frozen_bn", micro_batch_size=None, engine="stock", **_WITHOUT_EFFECT
    )
    return _predict_inference(config)


def measure_memory(config: TrainConfig) -> float:
    """Runs two steps of `config` for real, on random weights and images; returns the second's peak in MiB."""
    from tinytl.trainer import resolve_device

    device = resolve_device(config.device)
    torch.manual_seed(config.seed)
    config = dataclasses.replace(config, weights="none")
    net = build_model(config).net.to(device)
    optimizer, step = _step(config, net, device)
    images, labels = _batch(config, device)
    step(images, labels)
    with PeakMeter(net, optimizer, (images, labels)) as meter:
        step(images, labels)
    return meter.peak_mib


@lru_cache(maxsize=4096)
def _predict(config: TrainConfig) -> MemoryPrediction:
    device = torch.device("cpu")
    with FakeTensorMode():
        net = build_model(config).net
        optimizer, step = _step(config, net, device)
        images, labels = _batch(config, device)
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.empty_like(parameter)
        optimizer.step()  # makes the moments: a steady-state step has them from its start
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
        # From the second micro-batch on, all are alike: gradients exist, and are added to.
        rows = slice(0, 2 * config.samples_in_memory)
        with tracker.modules, tracker:
            step(images[rows], labels[rows], after_forward=tracker.label_saved)
        for hook in hooks:
            hook.remove()
    return tracker.prediction()


@lru_cache(maxsize=256)
def _predict_inference(config: TrainConfig) -> float:
    with FakeTensorMode(), torch.no_grad():
        net = build_model(config).net.eval()
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

    def step(images: Tensor, labels: Tensor, after_forward: Callable[[], None] | None = None) -> None:
        training_step(
            net,
            optimizer,
            normalize,
            images,
            labels,
            micro_batch_size=config.samples_in_memory,
            label_smoothing=config.label_smoothing,
            after_forward=after_forward,
        )

    return optimizer, step


def _batch(config: TrainConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    shape = (config.batch_size, 3, config.resolution, config.resolution)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    labels = torch.zeros(config.batch_size, dtype=torch.int64, device=device)
    return images.contiguous(memory_format=torch.channels_last), labels
