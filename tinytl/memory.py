"""Peak memory of a training step, known before it runs: the step is run on fake tensors.

A dispatch mode follows every storage from its allocation to its release. Nothing is computed and no weight
is read, so a prediction depends on the configuration alone.
"""

import dataclasses
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.module_tracker import ModuleTracker

from tinytl.build import build_model
from tinytl.config import FIELDS_WITHOUT_MEMORY, TrainConfig
from tinytl.kernel_scratch import scratch_bytes
from tinytl.measure import MIB, PeakMeter, state_tensors
from tinytl.training_step import InputNormalizer, build_optimizer, training_step

PARTS = ("parameters", "gradients", "optimizer", "batch_and_buffers", "saved_for_backward", "temporary")
CUDA_BLOCK_BYTES = 512
"""CUDA's caching allocator rounds every block up to this."""

_WITHOUT_EFFECT = {name: getattr(TrainConfig(), name) for name in FIELDS_WITHOUT_MEMORY} | {"weights": "none"}


@dataclass(frozen=True, kw_only=True)
class MemoryPrediction:
    """Peak of one training step in MiB (2**20 bytes), its parts, and where it stands."""

    peak_mib: float
    parts_mib: Mapping[str, float]
    """By `PARTS`; they add up to the peak."""
    peak_at: str
    """Module and pass in which the peak stands, such as `features.2.conv.0 backward`."""


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


def _tracker(config: TrainConfig) -> "StorageTracker":
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


class _ModuleTracker(ModuleTracker):
    """Knows the modules that a checkpoint runs again in backward, too.

    What torch's class hooks to their tensors would keep them alive, and mix up what backward is at.
    """

    def __init__(self) -> None:
        super().__init__()
        self.again: list[str] = []
        """Names of the modules that run again now, outermost first."""

    def _fw_pre_hook(self, mod: nn.Module, input: Any) -> None:
        if self.is_bw:
            self.again.append(self._get_mod_name(mod))
        else:
            super()._fw_pre_hook(mod, input)

    def _fw_post_hook(self, mod: nn.Module, input: Any, output: Any) -> None:
        if self.is_bw:
            self.again.pop()
        else:
            super()._fw_post_hook(mod, input, output)


@dataclass
class _Block:
    """One storage seen by the tracker."""

    nbytes: int
    part: str
    place: str


@dataclass
class StorageTracker(TorchDispatchMode):
    """Follows storages while active; `prediction` says how high they stood, and what they were."""

    block_bytes: int = 1
    """Sizes are rounded up to multiples of this, as the device's allocator does."""
    cpu_kernels: bool = True
    """Whether convolutions take what the CPU's kernels take inside."""
    modules: _ModuleTracker = field(default_factory=_ModuleTracker)
    _live: dict[int, _Block] = field(default_factory=dict)
    _events: list[tuple[_Block, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._see(leaf, "temporary")
        if self.cpu_kernels and (nbytes := scratch_bytes(func, args)):
            block = _Block(nbytes, "temporary", self._place())
            self._events += [(block, nbytes), (block, -nbytes)]
        return out

    def add_existing(self, part: str, tensors: list[Tensor]) -> None:
        """Counts tensors that are there before the step begins, as `part`."""
        for tensor in tensors:
            self._see(tensor, part)

    def label_gradient(self, parameter: Tensor) -> None:
        """Marks a parameter's gradient; a hook for `register_post_accumulate_grad_hook`."""
        assert parameter.grad is not None
        self._live[parameter.grad.untyped_storage()._cdata].part = "gradients"

    def label_saved(self) -> None:
        """Marks what is alive between forward and backward: autograd keeps it, nothing else does."""
        for block in self._live.values():
            if block.part == "temporary":
                block.part = "saved_for_backward"

    def prediction(self) -> MemoryPrediction:
        """Returns the highest sum of live storages and its composition."""
        current = peak = peak_index = 0
        for index, (_, delta) in enumerate(self._events):
            current += delta
            if current > peak:
                peak, peak_index = current, index
        parts = dict.fromkeys(PARTS, 0)
        for block, delta in self._events[: peak_index + 1]:
            parts[block.part] += delta
        return MemoryPrediction(
            peak_mib=peak / MIB,
            parts_mib={part: nbytes / MIB for part, nbytes in parts.items()},
            peak_at=self._events[peak_index][0].place,
        )

    def _see(self, tensor: Tensor, part: str) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._live:
            return
        nbytes = -(-storage.nbytes() // self.block_bytes) * self.block_bytes
        block = _Block(nbytes, part, self._place())
        self._live[key] = block
        self._events.append((block, nbytes))
        weakref.finalize(storage, self._release, key)

    def _release(self, key: int) -> None:
        block = self._live.pop(key)
        self._events.append((block, -block.nbytes))

    def _place(self) -> str:
        names = self.modules.again[-1:] or [name for name in self.modules.parents if name != "Global"]
        # Between its modules the network has the global mean; outside it are input, loss and optimiser,
        # and fused optimisers allocate nothing.
        deepest = max(names, key=len).partition(".")[2] or "global mean" if names else "input or loss"
        return f"{deepest} {'backward' if self.modules.is_bw else 'forward'}"
