"""Which storages a computation holds, when, for what and in which module, by a dispatch mode.

It follows fake tensors as well as real ones, because it reads only the size of a tensor's storage.
"""

import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tinytl.memory.cuda_allocator import CudaAllocator
from tinytl.memory.fake_tensors import RememberedAnswers
from tinytl.memory.gpu_scratch import call_of
from tinytl.memory.kernel_answers import laid_out_as_real, laid_out_by_cudnn, quick_answer
from tinytl.memory.measure import MIB, state_tensors
from tinytl.memory.prediction import PARTS, MemoryPrediction
from tinytl.memory.running_modules import RunningModules
from tinytl.memory_efficient.ops.kernel_scratch import scratch_bytes
from tinytl.memory_efficient.ops.walk import WALK
from tinytl.networks.stored_weights import stored_weights
from tinytl.step_time.operations import Cost, Work, cost_of


@dataclass
class _Block:
    """One storage seen by the tracker."""

    nbytes: int
    part: str
    place: str
    call: str | None = None
    """Of a GPU's scratch memory: the operation that a GPU is asked for (`gpu_scratch`)."""


@dataclass
class StorageTracker(TorchDispatchMode):
    """Follows storages while active; `prediction` returns their peak and its parts."""

    on_cpu: bool = True
    """Whether convolutions count the scratch memory of the CPU's kernels; else blocks are those of PyTorch's
    allocator for GPUs."""
    tf32: bool = False
    """Whether a GPU's 32-bit convolutions may round to tf32."""
    answers: RememberedAnswers | None = None
    """What is known of operations on fake tensors."""
    work: Work = field(default_factory=Work)
    """The operations seen, but for those of an optimiser."""
    optimizer_work: Work = field(default_factory=Work)
    """The operations of an optimiser's steps, see `label_step`."""
    modules: RunningModules = field(default_factory=RunningModules)
    _live: dict[int, _Block] = field(default_factory=dict)
    _events: list[tuple[_Block, int]] = field(default_factory=list)
    """Blocks in the order in which they come (1) and go (-1)."""
    _in_optimizer: bool = False
    _n_existing: int = 0
    """Events before the step begins."""
    _closed: bool = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Returns False: nothing here is compiled, and a guard around each call costs a tenth of the time."""
        return False

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.prim.device.default:  # half of all calls: C++ reads the device of a fake tensor
            return _CPU  # autograd would ask for a driver if it were a GPU; Python reads `fake_device`
        if self._in_optimizer and func is torch.ops.aten._local_scalar_dense.default:
            return 0.5  # how many steps an optimiser took, or a product: none divides by it, or by 1 minus it

        if kwargs and kwargs.get("device") == _CPU and args and _is_on_gpu(args[0]):
            # A gradient that C++ makes where it believes its tensor to be: no step copies to a CPU.
            kwargs = kwargs | {"device": args[0].device}

        if _updates_fakes(func, args):
            self._count(cost_of(func, args, None))
            if self.on_cpu:
                self._see_scratch(func, args, kwargs or {})
            return None

        def ask() -> Any:
            quick = quick_answer(func, args)
            return func(*args, **(kwargs or {})) if quick is None else quick

        out = ask() if self.answers is None else self.answers.answer(func, args, kwargs, ask)
        out = (laid_out_as_real if self.on_cpu else laid_out_by_cudnn)(func, args, out)
        if isinstance(out, Tensor):
            self._see(out, "temporary")
        elif out is not None:
            for leaf in tree_leaves(out):
                if isinstance(leaf, Tensor):
                    self._see(leaf, "temporary")
        self._count(cost_of(func, args, out))
        self._see_scratch(func, args, kwargs or {})
        return out

    def add_existing(self, part: str, tensors: list[Tensor]) -> None:
        """Counts tensors that exist before the step begins, as `part`."""
        for tensor in tensors:
            self._see(tensor, part)
        self._n_existing = len(self._events)

    def add_state(self, net: nn.Module, optimizer: torch.optim.Optimizer, batch: Iterable[Tensor]) -> None:
        """Counts what is there between two steps: a network, an optimiser's state, and a batch."""
        self.add_existing("parameters", [*net.parameters(), *stored_weights(net)])
        self.add_existing("optimizer", state_tensors(nn.Identity(), optimizer))
        self.add_existing("batch_and_buffers", [*net.buffers(), *batch])

    def label_gradient(self, parameter: Tensor) -> None:
        """Marks a parameter's gradient; a hook for `register_post_accumulate_grad_hook`."""
        assert parameter.grad is not None
        self._live[parameter.grad.untyped_storage()._cdata].part = "gradients"

    def label_saved(self) -> None:
        """Marks what is alive between forward and backward: only autograd keeps it."""
        for block in self._live.values():
            if block.part == "temporary":
                block.part = "saved_for_backward"

    @contextmanager
    def label_step(self, optimizer: torch.optim.Optimizer) -> Iterator[None]:
        """Inside of it, what an optimiser's steps compute counts as `optimizer_work`."""
        hooks = [
            optimizer.register_step_pre_hook(lambda *_: self._begin_optimizer_work(True)),
            optimizer.register_step_post_hook(lambda *_: self._begin_optimizer_work(False)),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def optimizer_work_inside(self) -> Iterator[None]:
        """Inside of it, what is computed counts as `optimizer_work`: once per step, not per pass."""
        self._begin_optimizer_work(True)
        try:
            yield
        finally:
            self._begin_optimizer_work(False)

    def _begin_optimizer_work(self, begins: bool) -> None:
        self._in_optimizer = begins

    def close(self) -> None:
        """Ends the step: what is freed from now on is no part of it."""
        self._closed = True

    @property
    def calls(self) -> set[str]:
        """What a GPU is to be asked for this step (`gpu_scratch`)."""
        return {block.call for block, _ in self._events if block.call is not None}

    def prediction(self, scratch: Mapping[str, int] | None = None) -> MemoryPrediction:
        """Returns the highest sum of live storages and its composition.

        `scratch`: what a GPU has said of `calls`, in bytes; None: nothing, and nobody was asked.
        """
        for block, _ in self._events:
            if block.call is not None:
                block.nbytes = (scratch or {}).get(block.call, 0)
        current = peak = peak_index = 0
        deltas = [sign * b.nbytes for b, sign in self._events] if self.on_cpu else self._held_on_gpu()
        for index, delta in enumerate(deltas):
            current += delta
            if current > peak:
                peak, peak_index = current, index
        parts = dict.fromkeys(PARTS, 0)
        for (block, _), delta in zip(self._events[: peak_index + 1], deltas, strict=False):
            parts[block.part] = parts.get(block.part, 0) + delta
        return MemoryPrediction(
            peak_mib=peak / MIB,
            parts_mib={part: nbytes / MIB for part, nbytes in parts.items()},
            peak_at=self._events[peak_index][0].place,
            calls_not_known=frozenset() if scratch is None else frozenset(self.calls - scratch.keys()),
        )

    def _count(self, cost: Cost | None) -> None:
        (self.optimizer_work if self._in_optimizer else self.work).add(cost, WALK.times)

    def _see_scratch(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        nbytes = scratch_bytes(func, args, kwargs) if self.on_cpu else 0
        call = None if self.on_cpu else call_of(func, args, kwargs, tf32=self.tf32)
        if nbytes or call is not None:
            block = _Block(nbytes, "temporary", self.modules.place(), call)
            self._events += [(block, 1), (block, -1)]

    def _see(self, tensor: Tensor, part: str) -> None:
        if not self.on_cpu and isinstance(tensor, FakeTensor) and tensor.device.type == "cpu":
            return  # on its way to the GPU, as masks of dropout are
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._live:
            return
        block = _Block(storage.nbytes(), part, self.modules.place())
        self._live[key] = block
        self._events.append((block, 1))
        weakref.finalize(storage, self._release, key)

    def _release(self, key: int) -> None:
        block = self._live.pop(key)
        if not self._closed:
            self._events.append((block, -1))

    def _held_on_gpu(self) -> list[int]:
        """Returns by how much each event changes what PyTorch's allocator holds, in a later step than the
        first, which finds the pieces that the one before has left.
        """
        allocator = CudaAllocator()
        addresses: dict[int, int] = {}

        def follow(events: Iterable[tuple[_Block, int]]) -> Iterator[int]:
            for block, sign in events:
                before = allocator.allocated_bytes
                if sign > 0 and block.nbytes:
                    addresses[id(block)] = allocator.allocate(block.nbytes)
                elif id(block) in addresses:
                    allocator.release(addresses.pop(id(block)))
                yield allocator.allocated_bytes - before

        existing, step = self._events[: self._n_existing], self._events[self._n_existing :]
        held = list(follow(existing))
        for _ in follow(step):
            pass
        return held + list(follow(step))


def _updates_fakes(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether an optimiser's fused kernel edits fake tensors: it makes none, and runs on no fake GPU."""
    fused = "::_fused_" in func.name() and func.name().partition(".")[0].endswith("_")
    return fused and isinstance(args[0][0], FakeTensor)


def _is_on_gpu(value: Any) -> bool:
    return isinstance(value, Tensor) and value.device.type == "cuda"


_CPU = torch.device("cpu")
