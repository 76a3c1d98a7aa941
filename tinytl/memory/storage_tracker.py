"""Which storages a computation holds, when, for what and in which module, by a dispatch mode.

It follows fake tensors as well as real ones, because it reads only the size of a tensor's storage.
"""

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.module_tracker import ModuleTracker

from tinytl.memory.fake_tensors import UNKNOWN, RememberedAnswers
from tinytl.memory.measure import MIB
from tinytl.memory_efficient.ops.kernel_scratch import scratch_bytes

PARTS = ("parameters", "gradients", "optimizer", "batch_and_buffers", "saved_for_backward", "temporary")


@dataclass(frozen=True, kw_only=True)
class MemoryPrediction:
    """Peak of one training step in MiB (2**20 bytes), its parts, and where it occurs."""

    peak_mib: float
    parts_mib: Mapping[str, float]
    """By `PARTS`; their sum is the peak."""
    peak_at: str
    """Module and pass of the peak, such as `features.2.conv.0 backward`."""

    def what_sets_it(self) -> str:
        """Returns the place and the largest part of the peak, in words."""
        part, mib = max(self.parts_mib.items(), key=lambda item: item[1])
        return f"at {self.peak_at}, most of it {part} ({mib:.1f} MiB)"


class _ModuleTracker(ModuleTracker):
    """Also tracks the modules that a checkpoint recomputes in backward.

    Hooks of torch's class would keep their tensors alive, and confuse the current place in backward.
    """

    def __init__(self) -> None:
        super().__init__()
        self.again: list[str] = []
        """Names of the modules that are being recomputed, outermost first."""

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
    """Follows storages while active; `prediction` returns their peak and its parts."""

    block_bytes: int = 1
    """Sizes are rounded up to multiples of this, as the device's allocator does."""
    cpu_kernels: bool = True
    """Whether convolutions count the scratch memory of the CPU's kernels."""
    answers: RememberedAnswers | None = None
    """What is known of operations on fake tensors."""
    modules: _ModuleTracker = field(default_factory=_ModuleTracker)
    _live: dict[int, _Block] = field(default_factory=dict)
    _events: list[tuple[_Block, int]] = field(default_factory=list)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Returns False: nothing here is compiled, and a guard around each call costs a tenth of the time."""
        return False

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.prim.device.default:  # half of all calls: the device of a fake tensor is read
            return args[0].fake_device
        out = UNKNOWN if self.answers is None else self.answers.answer(func, args, kwargs)
        if out is UNKNOWN:
            out = _quick_answer(func, args)
            if out is None:
                out = func(*args, **(kwargs or {}))
            if self.answers is not None:
                self.answers.learn(out)
        if self.cpu_kernels:
            out = _laid_out_as_real(func, args, out)
        if isinstance(out, Tensor):
            self._see(out, "temporary")
        elif out is not None:
            for leaf in tree_leaves(out):
                if isinstance(leaf, Tensor):
                    self._see(leaf, "temporary")
        if self.cpu_kernels and (nbytes := scratch_bytes(func, args)):
            block = _Block(nbytes, "temporary", self.place())
            self._events += [(block, nbytes), (block, -nbytes)]
        return out

    def add_existing(self, part: str, tensors: list[Tensor]) -> None:
        """Counts tensors that exist before the step begins, as `part`."""
        for tensor in tensors:
            self._see(tensor, part)

    def label_gradient(self, parameter: Tensor) -> None:
        """Marks a parameter's gradient; a hook for `register_post_accumulate_grad_hook`."""
        assert parameter.grad is not None
        self._live[parameter.grad.untyped_storage()._cdata].part = "gradients"

    def label_saved(self) -> None:
        """Marks what is alive between forward and backward: only autograd keeps it."""
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
        block = _Block(nbytes, part, self.place())
        self._live[key] = block
        self._events.append((block, nbytes))
        weakref.finalize(storage, self._release, key)

    def _release(self, key: int) -> None:
        block = self._live.pop(key)
        self._events.append((block, -block.nbytes))

    def place(self) -> str:
        """Returns the innermost module that runs now, and the pass."""
        names = self.modules.again[-1:] or [name for name in self.modules.parents if name != "Global"]
        # Between modules, the network computes the global mean. Outside it are input, loss and optimiser;
        # fused optimisers allocate nothing.
        deepest = max(names, key=len).partition(".")[2] or "global mean" if names else "input or loss"
        return f"{deepest} {'backward' if self.modules.is_bw else 'forward'}"


def _quick_answer(func: Any, args: tuple[Any, ...]) -> Any:
    """Returns what a norm or a resizing makes of fake tensors of one dtype, or None for anything else.

    Fake tensors run the whole formula, in Python, for each new shape: half the time of a prediction.
    """
    if func not in _LONG_FORMULAS:
        return None
    tensors = [a for a in args if isinstance(a, Tensor)]
    if len({t.dtype for t in tensors}) != 1 or not isinstance(tensors[0], FakeTensor):
        return None
    if func is torch.ops.aten.upsample_bilinear2d.default:
        x, (height, width), *_ = args
        form = (
            torch.channels_last
            if x.is_contiguous(memory_format=torch.channels_last)
            else torch.contiguous_format
        )
        return torch.empty((*x.shape[:2], height, width), dtype=x.dtype, device=x.device, memory_format=form)
    if func is torch.ops.aten.native_group_norm.default:
        x, *_, n_samples, _channels, _pixels, n_groups, _eps = args
        return torch.empty_like(x), *(x.new_empty((n_samples, n_groups)) for _ in range(2))
    if func is torch.ops.aten.native_batch_norm.default:
        x, *_, training, _momentum, _eps = args
        n_statistics = x.shape[1] if training else 0
        return torch.empty_like(x), x.new_empty(n_statistics), x.new_empty(n_statistics)
    _, x, *_, (of_input, of_weight, of_bias) = args
    return (
        torch.empty_like(x) if of_input else None,
        x.new_empty(x.shape[1]) if of_weight else None,
        x.new_empty(x.shape[1]) if of_bias else None,
    )


_LONG_FORMULAS = (
    torch.ops.aten.upsample_bilinear2d.default,
    torch.ops.aten.native_group_norm.default,
    torch.ops.aten.native_batch_norm.default,
    torch.ops.aten.native_batch_norm_backward.default,
    torch.ops.aten.native_group_norm_backward.default,
)


def _laid_out_as_real(func: Any, args: tuple[Any, ...], out: Any) -> Any:
    """Returns `out` with the strides of CPU kernels if those of fake tensors differ.

    On maps of one pixel, and for one sample, strides carry little meaning, yet they decide the next kernel.
    """
    y = out[0] if isinstance(out, tuple) else out
    if not isinstance(y, FakeTensor) or y.dim() != 4:
        return out
    if func is torch.ops.aten.native_group_norm.default and len(y) == 1:
        return torch.empty_like(args[0]), *out[1:]
    if func in _DENSE_AT_ONE_PIXEL and y.shape[2:] == (1, 1):
        y = torch.empty_strided(y.shape, (y.shape[1], 1, 1, 1), dtype=y.dtype, device=y.device)
        return (y, *out[1:]) if isinstance(out, tuple) else y
    return out


_DENSE_AT_ONE_PIXEL = (torch.ops.aten.native_batch_norm.default, torch.ops.aten.add.Tensor)
