"""The memory of a training step, measured: the step runs, on random weights and images."""

import dataclasses

import torch

from tinytl.build import build_model
from tinytl.config.plan import is_recorded
from tinytl.config.train_config import TrainConfig
from tinytl.device import resolve_device
from tinytl.memory.followed_steps import predict_tensors
from tinytl.memory.gpu_workspaces import Workspaces, compared, constant_workspaces
from tinytl.memory.measure import PeakMeter, cublas_workspace_bytes
from tinytl.memory.predict import resolve_plan
from tinytl.training.captured_step import planned_step
from tinytl.training.mixed_precision import MixedPrecision, backends_restored
from tinytl.training.step import InputNormalizer, build_optimizer, random_batch
from tinytl.training.weight_average import WeightAverage


@backends_restored()
def measure_memory(config: TrainConfig) -> float:
    """Runs two steps of `config` for real, on random weights and images; returns the second's peak in MiB."""
    device = resolve_device(config.device)
    if device.type == "cuda":
        cublas_workspace_bytes()  # in a step's middle it would be in the way
    torch.manual_seed(config.seed)
    config = dataclasses.replace(resolve_plan(config), weights="none", lite_weights=None)
    net = build_model(config).net.to(device)
    optimizer = build_optimizer(net, config)
    normalize, precision = InputNormalizer(config, device), MixedPrecision(config.precision, device)
    step = planned_step(config, net, optimizer, normalize, precision)
    images, labels = random_batch(config, device)
    average = WeightAverage(net, config)
    batch = (images, labels, *average.tensors)
    step(images, labels)
    recorded = is_recorded(config)
    with PeakMeter(net, optimizer, batch, recorded=recorded) as meter:
        step(images, labels, **({} if recorded else {"after_forward": meter.read_so_far}))
        average.update()
    return meter.peak_mib


def workspaces_for_another_machine(precision: str) -> Workspaces | None:
    """Returns what the libraries of this machine's GPU hold in steps of that precision, as constants; None if
    the GPU cannot say it.
    """
    return constant_workspaces(precision, _measure_workspaces)


def _measure_workspaces(precision: str) -> Workspaces:
    return compared(precision, measure_memory, lambda config: predict_tensors(config).peak_mib)
