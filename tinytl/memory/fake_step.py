"""A training step on fake tensors: what it holds at each moment, for any way to run one configuration."""

import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedOperatorException,
)

from tinytl.build import set_engine_
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError
from tinytl.memory.fake_network import build_on_meta, to_fake_cpu_
from tinytl.memory.fake_tensors import RememberedAnswers
from tinytl.memory.measure import state_tensors
from tinytl.memory.storage_tracker import StorageTracker
from tinytl.training.mixed_precision import MixedPrecision
from tinytl.training.step import InputNormalizer, build_optimizer, random_batch, training_step

CUDA_BLOCK_BYTES = 512
"""CUDA's caching allocator rounds every block up to this."""

_NOT_ON_FAKE_TENSORS = (
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
        self._set_plan(config)
        device = torch.device("cpu")
        several = config.samples_in_memory < config.batch_size
        with self.mode:
            images, labels = random_batch(config, device)
            tracker = tracker_for(config, self.answers)
            tracker.add_existing("parameters", list(self.net.parameters()))
            tracker.add_existing("optimizer", state_tensors(nn.Identity(), self.optimizer))
            tracker.add_existing("batch_and_buffers", [*self.net.buffers(), images, labels])
            if several:
                self._set_gradients()
                tracker.add_existing("gradients", self._gradients)
            hooks = [
                parameter.register_post_accumulate_grad_hook(tracker.label_gradient)
                for parameter in self._trained()
            ]
            rows = slice(0, config.samples_in_memory)
            normalize = InputNormalizer(config, device)
            precision = MixedPrecision(config.precision, device)
            with tracker.modules, tracker:
                try:
                    training_step(
                        self.net,
                        self.optimizer,
                        normalize,
                        images[rows],
                        labels[rows],
                        micro_batch_size=config.samples_in_memory,
                        label_smoothing=config.label_smoothing,
                        precision=precision,
                        after_forward=tracker.label_saved,
                    )
                except _NOT_ON_FAKE_TENSORS as error:
                    raise ConfigError(
                        f"{error.func} at {tracker.place()} does not run on fake tensors, so the memory of "
                        f"{config.backbone} cannot be predicted: compute it from shapes, not from values"
                    ) from None
                finally:
                    for hook in hooks:
                        hook.remove()
                    self.optimizer.zero_grad(set_to_none=True)
        return tracker

    def _build(self, config: TrainConfig) -> None:
        self.mode = FakeTensorMode()
        self.answers = RememberedAnswers(self.mode)
        net = build_on_meta(config)
        with self.mode:
            self.net = to_fake_cpu_(net)
            self.optimizer = build_optimizer(self.net, config)
            self._gradients = [torch.empty_like(parameter) for parameter in self._trained()]
            self._set_gradients()
            self.optimizer.step()  # creates the moments: a steady-state step has them from its start
            self.optimizer.zero_grad(set_to_none=True)
        self._planned = config

    def _set_plan(self, config: TrainConfig) -> None:
        if (config.checkpoint, config.stock_below_kib) == (
            self._planned.checkpoint,
            self._planned.stock_below_kib,
        ):
            return
        if self._planned.checkpoint == "all" and (config.engine == "stock" or config.norm == "batch_norm"):
            self._build(config)  # a network with checkpoints does not lose them
        else:
            set_engine_(self.net, config)
            self._planned = config

    def _trained(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.net.parameters() if parameter.requires_grad]

    def _set_gradients(self) -> None:
        for parameter, gradient in zip(self._trained(), self._gradients, strict=True):
            parameter.grad = gradient


def tracker_for(config: TrainConfig, answers: RememberedAnswers | None = None) -> StorageTracker:
    """Returns a tracker that counts as the allocator of the device of `config` does."""
    cuda = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    if cuda:
        return StorageTracker(CUDA_BLOCK_BYTES, cpu_kernels=False, answers=answers)
    return StorageTracker(answers=answers)
