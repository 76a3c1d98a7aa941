"""A training step on fake tensors: what it holds at each moment, for any way to run one configuration."""

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)

from tinytl.build import set_engine_
from tinytl.config.plan import inserts_checkpoints, is_recorded
from tinytl.config.train_config import TrainConfig
from tinytl.device import planned_device
from tinytl.errors import ConfigError
from tinytl.memory.absent_gpu import AutocastOfAbsentGpu
from tinytl.memory.fake_network import build_on_meta, to_fake_
from tinytl.memory.fake_tensors import RememberedAnswers
from tinytl.memory.light_fake_mode import LightFakeMode
from tinytl.memory.prediction import OF_AVERAGE, OF_GRAPHS
from tinytl.memory.storage_tracker import StorageTracker
from tinytl.training.graph_buffers import StaticBuffers
from tinytl.training.step import build_optimizer, random_batch, step_of
from tinytl.training.weight_average import WeightAverage

SET_ON_NETWORK = ("checkpoint", "stock_below_kib", "slice_mib", "memory_format")
"""The fields of a plan that `set_engine_` sets."""
NOT_ON_FAKE_TENSORS = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)


class FakeStep:
    """A network and its optimiser on fake tensors, built once for all execution plans of a configuration."""

    def __init__(self, config: TrainConfig) -> None:
        """Builds the network of a planned `config`, and the optimiser's state after its first step."""
        self._build(config)

    def run(self, config: TrainConfig) -> StorageTracker:
        """Follows one pass and the optimiser's step, planned as in `config`, which may differ from the first
        one in its execution plan alone.

        If a batch needs several passes, this is one of the later ones: gradients exist, and are added to.

        Raises:
            ConfigError: for an operation of the network that does not run on fake tensors.
        """
        with _collector_waits(), warnings.catch_warnings():
            # torch's checkpoint restores the autocast of a GPU, which is off on a machine without one. It
            # restores a CPU's, too, which is the one that counts then.
            warnings.filterwarnings("ignore", "CUDA is not available", UserWarning)
            if self.device.type == "cuda" and not torch.cuda.is_available():
                with AutocastOfAbsentGpu():
                    return self._run(config)
            return self._run(config)

    def _run(self, config: TrainConfig) -> StorageTracker:
        self._set_plan(config)
        several = config.samples_in_memory < config.batch_size
        recorded = is_recorded(config)  # then its kernels are those of a step that is not
        with self.mode:
            images, labels = random_batch(config, self.device)
            tracker = tracker_for(config, self.answers)
            tracker.add_state(self.net, self.optimizer, (images, labels))
            if self.average.tensors:
                tracker.add_existing(OF_AVERAGE, self.average.tensors)
            if several or recorded:
                self._set_gradients()
                tracker.add_existing("gradients", self._gradients)
            if recorded:
                buffers = StaticBuffers.of(config, self.net, self.optimizer, self.device)
                tracker.add_existing(OF_GRAPHS, buffers.tensors)
            hooks = [
                parameter.register_post_accumulate_grad_hook(tracker.label_gradient)
                for parameter in self._trained()
            ]
            rows = slice(0, config.samples_in_memory)
            step = step_of(config, self.net, self.optimizer, self.device)
            with tracker.label_step(self.optimizer), tracker.modules, tracker:
                try:
                    step(
                        images[rows],
                        labels[rows],
                        keeps_gradients=recorded,
                        after_forward=tracker.label_saved,
                    )
                    with tracker.optimizer_work_inside():
                        self.average.update()
                except NOT_ON_FAKE_TENSORS as error:
                    place = tracker.modules.place()
                    raise ConfigError(
                        f"{error.func} at {place} does not run on fake tensors, so the memory of "
                        f"{config.backbone} cannot be predicted: compute it from shapes, not from values"
                    ) from None
                finally:
                    for hook in hooks:
                        hook.remove()
                    self.optimizer.zero_grad(set_to_none=True)
            tracker.close()
        return tracker

    def _build(self, config: TrainConfig) -> None:
        self.device = planned_device(config.device)
        self.mode = LightFakeMode()
        self.answers = self.mode.answers
        net = build_on_meta(config)
        with self.mode:
            self.net = to_fake_(net, self.device)
            self.optimizer = build_optimizer(self.net, config)
            self.average = WeightAverage(self.net, config)
            self._gradients = [torch.empty_like(parameter) for parameter in self._trained()]
            self._set_gradients()
            with tracker_for(config):
                self.optimizer.step()  # creates the moments: a steady-state step has them from its start
            self.optimizer.zero_grad(set_to_none=True)
        self._planned = config

    def _set_plan(self, config: TrainConfig) -> None:
        if all(getattr(config, name) == getattr(self._planned, name) for name in SET_ON_NETWORK):
            return
        if inserts_checkpoints(self._planned):
            self._build(config)  # a network with checkpoints does not lose them
        else:
            set_engine_(self.net, config)
            self._planned = config

    def _trained(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.net.parameters() if parameter.requires_grad]

    def _set_gradients(self) -> None:
        for parameter, gradient in zip(self._trained(), self._gradients, strict=True):
            parameter.grad = gradient


@contextmanager
def _collector_waits() -> Iterator[None]:
    """Inside of it cycles are not collected: looking for them takes a fifth of the time of a prediction, and
    what it would free in the middle of a step would depend on what ran before.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def tracker_for(config: TrainConfig, answers: RememberedAnswers | None = None) -> StorageTracker:
    """Returns a tracker that counts as the allocator of the device of `config` does."""
    on_cpu = planned_device(config.device).type == "cpu"
    return StorageTracker(on_cpu=on_cpu, tf32=config.precision == "tf32", answers=answers)
