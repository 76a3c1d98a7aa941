"""A training step recorded once as CUDA graphs and replayed: two launches in place of a thousand.

Small batches leave a GPU waiting for the host, which launches each of a step's kernels. One graph holds a
micro-batch's forward and backward pass, the other the optimiser's step. A graph runs the kernels that were
recorded, on the memory that they had then: so images, labels, dropout masks, learning rates, sums and
gradients stay where they are, and are filled anew before each replay. Random numbers are drawn outside.

Before a graph is used, its gradients are compared with those of the same pass without one. What cannot be
recorded runs as it is; `CapturedStep.refusal` says why.

Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from tinytl.config.plan import graph_refusal, is_recorded, releases_gradients
from tinytl.config.train_config import TrainConfig
from tinytl.networks.dropout import masks_from
from tinytl.training.class_weights import unit_weights
from tinytl.training.data_parallel import ALONE, Ranks, share_of_one
from tinytl.training.graph_buffers import StaticBuffers
from tinytl.training.mixed_precision import MixedPrecision
from tinytl.training.step import InputNormalizer, add_gradients, training_step

WARM_UPS = 3
"""Passes on a side stream before recording: libraries choose kernels and Triton compiles, which no recording
allows."""
NEARLY_EQUAL = 0.01
"""Largest difference of a replay's gradient from that of the same pass without a graph, of its norm. Orders
of additions differ by 1e-6 of it, in 16 bits by 1e-3; a graph that reads the wrong memory by all of it."""
SEVERAL_PROCESSES = "several processes sum their gradients within a step"

Step = Callable[..., tuple[Tensor, Tensor]]
"""Takes images, labels and the keyword `batch_size`; returns the summed loss and the number of hits."""

logger = logging.getLogger(__name__)


class Graphs(Protocol):
    """What records kernels. `CudaGraphs` is the real one."""

    def warm_up(self, run: Callable[[], object]) -> None:
        """Runs what is to be recorded, as often as it takes."""

    def capture(self, run: Callable[[], object]) -> Callable[[], object]:
        """Records the kernels of `run` without executing them; returns what executes them.

        Raises:
            RuntimeError: if something in `run` cannot be recorded.
        """


@cache
def _recording_stream(device: int) -> torch.cuda.Stream:
    """Returns the stream on which a GPU's graphs are recorded: cuBLAS keeps a workspace for each."""
    return torch.cuda.Stream(device)


def has_recorded() -> bool:
    """Whether this process has recorded a step: cuBLAS then holds a workspace for that, until it ends."""
    return _recording_stream.cache_info().currsize > 0


class CudaGraphs:
    """CUDA's graphs, each with a memory pool of its own."""

    def warm_up(self, run: Callable[[], object]) -> None:
        """Runs it on the stream of recordings."""
        present = torch.cuda.current_stream()
        side = _recording_stream(present.device_index)
        side.wait_stream(present)
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                run()
        present.wait_stream(side)

    def capture(self, run: Callable[[], object]) -> Callable[[], object]:
        """Returns the replay of a new graph."""
        graph, present = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, stream=_recording_stream(present.device_index)):
                run()
        except BaseException:
            # torch stays on the stream of a recording that failed (before 2.15), and draws a GPU's random
            # numbers for a recording (2.11): one that succeeds ends that.
            torch.cuda.set_stream(present)
            number = torch.zeros((), device=f"cuda:{present.device_index}")
            with torch.cuda.graph(torch.cuda.CUDAGraph(), stream=_recording_stream(present.device_index)):
                number.add_(1)
            raise
        finally:
            torch.cuda.set_stream(present)
        return graph.replay


class CapturedStep:
    """`training_step` of a planned `config`, replayed from graphs for whole batches.

    The first step runs as it is, because the optimiser has no state before it. The next one with a whole
    batch records; smaller batches run as they are, on the same gradients and state. Learning rates are those
    of the optimiser's groups, rounded to 32 bits, in which a graph's kernels read them. A loaded optimiser
    state, or another network mode, needs a new `CapturedStep`.
    """

    refusal: str | None = None
    """Why no graph is used, once that is known; None if one is, or will be."""
    buffers: StaticBuffers | None = None
    """Once there are graphs."""
    _replay_gradients: Callable[[], object] | None = None
    _replay_optimizer: Callable[[], object] | None = None

    def __init__(
        self,
        config: TrainConfig,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        normalize: InputNormalizer,
        precision: MixedPrecision,
        graphs: Graphs,
        class_weights: Tensor | None = None,
    ) -> None:
        self._config, self._net, self._optimizer, self._graphs = config, net, optimizer, graphs
        self._device = precision.device
        self._has_begun = bool(optimizer.state)
        how: dict[str, Any] = {"label_smoothing": config.label_smoothing, "precision": precision}
        how["class_weights"] = class_weights
        self._eager: Step = partial(
            training_step, net, optimizer, normalize, micro_batch_size=config.samples_in_memory, **how
        )
        self._add_gradients: Callable[..., None] = partial(
            add_gradients, net, normalize, batch_size=config.batch_size, **how
        )

    def __call__(
        self, images: Tensor, labels: Tensor, *, batch_size: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Takes an optimiser step; returns the summed loss and the number of hits, as `training_step`."""
        for group in self._optimizer.param_groups:
            group["lr"] = float(np.float32(group["lr"]))
        is_whole = len(labels) == self._config.batch_size
        if is_whole and self._has_begun and self.buffers is None and self.refusal is None:
            self._record(images, labels)
        if is_whole and self.buffers is not None:
            return self._replay(self.buffers, images, labels)
        self._has_begun = True
        return self._eager(images, labels, batch_size=batch_size, keeps_gradients=self.buffers is not None)

    def _replay(self, buffers: StaticBuffers, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        assert self._replay_gradients is not None and self._replay_optimizer is not None
        for total in buffers.sums:
            total.zero_()
        micro = self._config.samples_in_memory
        for start in range(0, len(labels), micro):
            rows = slice(start, start + micro)
            buffers.take(images[rows], labels[rows])
            buffers.draw_masks()
            self._replay_gradients()
        for lr, group in zip(buffers.lrs, self._optimizer.param_groups, strict=True):
            lr.fill_(group["lr"])
        self._replay_optimizer()
        return buffers.loss_sum.clone(), buffers.n_correct.clone()

    def _record(self, images: Tensor, labels: Tensor) -> None:
        """Records both graphs with a whole batch, or sets `refusal`; changes nothing that a step reads."""
        with _unchanged(self._net.buffers()):  # running statistics
            try:
                self._prepare(images, labels)
            except torch.OutOfMemoryError:
                self.refusal = "the GPU's memory has no room for it"
        if self.refusal is not None:
            self._replay_gradients = self._replay_optimizer = None
            self._optimizer.zero_grad(set_to_none=True)
            logger.warning("steps run without a CUDA graph: %s", self.refusal)

    def _prepare(self, images: Tensor, labels: Tensor) -> None:
        micro = self._config.samples_in_memory
        buffers = StaticBuffers.of(self._config, self._net, self._optimizer, self._device)
        buffers.take(images[:micro], labels[:micro])
        add = partial(self._add_gradients, buffers.images, buffers.labels, buffers.sums)
        with masks_from(buffers.masks):
            self._graphs.warm_up(add)
            # Not those of the warm-up, which belong to its stream.
            trained = [p for group in self._optimizer.param_groups for p in group["params"]]
            for parameter in trained:
                if parameter.grad is not None:
                    parameter.grad = torch.zeros_like(parameter)
            gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
            add()
            expected = _on_host(gradients)
            self._replay_gradients = self._captured(add)
        if self._replay_gradients is None:
            return
        self._optimizer.zero_grad(set_to_none=False)
        self._replay_gradients()
        if not nearly_equal(_on_host(gradients), expected):
            self.refusal = "its gradients are not those of the same pass without one"
            return
        self._optimizer.zero_grad(set_to_none=False)
        warm_up_optimizer(self._optimizer, self._device)
        with _rates_in(buffers.lrs, self._optimizer):
            self._replay_optimizer = self._captured(self._step_and_zero)
        if self._replay_optimizer is not None:
            self.buffers = buffers

    def _step_and_zero(self) -> None:
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=False)

    def _captured(self, run: Callable[[], object]) -> Callable[[], object] | None:
        # Passes of the same code have run just before: what is raised here is about recording.
        try:
            return self._graphs.capture(run)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self.refusal = f"recording it failed ({str(error).splitlines()[0]})"
            return None


def step_refusal(config: TrainConfig, ranks: Ranks = ALONE) -> str | None:
    """Returns why steps of a planned `config` that asks for a CUDA graph run without one; None if it does not
    ask, or if they may be recorded.
    """
    if not config.cuda_graph:
        return None
    return SEVERAL_PROCESSES if ranks.world_size > 1 else graph_refusal(config)


def planned_step(
    config: TrainConfig,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    normalize: InputNormalizer,
    precision: MixedPrecision,
    ranks: Ranks = ALONE,
    weights_of_classes: Tensor | None = None,
) -> Step:
    """Returns a training step as a planned `config` runs it: a `CapturedStep` if it is to be recorded.

    `weights_of_classes`: those of the training images, by `class_weights`; None: 1, for images that do not
    matter.
    """
    if weights_of_classes is None:
        weights_of_classes = unit_weights(config, precision.device)
    if is_recorded(config) and ranks.world_size == 1:
        return CapturedStep(config, net, optimizer, normalize, precision, new_graphs(), weights_of_classes)
    return partial(
        training_step,
        net,
        optimizer,
        normalize,
        micro_batch_size=config.samples_in_memory,
        label_smoothing=config.label_smoothing,
        class_weights=weights_of_classes,
        precision=precision,
        ranks=ranks,
        releases_gradients=releases_gradients(share_of_one(config, ranks)),
    )


def nearly_equal(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Whether tensors differ from others by at most `NEARLY_EQUAL` of their norm."""
    off = sum(float((one - other).square().sum()) for one, other in zip(found, expected, strict=True))
    return off <= NEARLY_EQUAL**2 * sum(float(other.square().sum()) for other in expected)


def warm_up_optimizer(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Loads the kernels of an optimiser's step, by two steps of another one like it over a single number."""
    number = nn.Parameter(torch.zeros(1, device=device))
    number.grad = torch.zeros_like(number)
    other = type(optimizer)([optimizer.param_groups[0] | {"params": [number]}])  # type: ignore[call-arg]
    for _ in range(2):  # the first makes the state
        other.step()


def new_graphs() -> Graphs:
    """Returns what records the steps of this process."""
    return CudaGraphs()


def _on_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Returns copies that need no memory of a GPU; waits for it."""
    return [tensor.to("cpu", copy=True) for tensor in tensors]


@contextmanager
def _rates_in(lrs: Sequence[Tensor], optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Inside of it the optimiser reads its learning rates from tensors, and says that it can be recorded.

    Fused optimisers keep all their state on the device anyhow. So outside of it nothing differs from one that
    is never recorded: neither its groups nor its checkpoints.
    """
    before = [dict(group) for group in optimizer.param_groups]
    for group, lr in zip(optimizer.param_groups, lrs, strict=True):
        group["lr"] = lr
        if "capturable" in group:  # SGD needs no such word
            group["capturable"] = True
    try:
        yield
    finally:
        for group, was in zip(optimizer.param_groups, before, strict=True):
            group.update(was)


@contextmanager
def _unchanged(tensors: Iterator[Tensor]) -> Iterator[None]:
    """Gives tensors back the values that they have now."""
    kept = [(tensor, tensor.clone()) for tensor in tensors]
    try:
        yield
    finally:
        for tensor, values in kept:
            tensor.copy_(values)
