"""A run of modules, walked a few samples at a time as one function: no map inside is the whole batch's.

The first maps of a network are its largest: stem, pooling, first blocks. Module by module each of them is the
whole batch's, forward and backward. In a run a slice of the batch walks through all of them before the next
one begins, and back likewise; only the run's last output is whole, where maps are small. Each module keeps
for backward what it would keep of the whole batch.

The modules are the children of an `nn.Sequential`, or those that a module's own code calls one after the
other, found by torch.fx: its code runs on, behind the last of them.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, fx, nn

from tinytl.device import takes_cpu_path
from tinytl.gradient_checkpoints.segment import checkpoint_segment
from tinytl.memory_efficient.block.spec import Execution
from tinytl.memory_efficient.block.stock import base_class, has_hooks, keeps_forward, reason_to_leave
from tinytl.memory_efficient.block.structure import is_norm_with_activation
from tinytl.memory_efficient.lean_blocks import (
    MOST_EXTRA_SLICES,
    SLICES_WORTH_RECOMPUTING,
    LeanBlock,
    itemsize_of,
    run_first_blocks,
)
from tinytl.memory_efficient.lean_functions import functions_of
from tinytl.memory_efficient.lean_modules import Lean
from tinytl.memory_efficient.lean_samplewise import (
    LeanSamplewise,
    Sliced,
    draws,
    is_sliced,
    measured,
    run_in_slices,
)
from tinytl.memory_efficient.ops.layout import memory_format
from tinytl.networks.backbones.sequence import trace_children

MOST_EXTRA_OF_CODE = 2
"""As `MOST_EXTRA_SLICES`, of a block that runs its own code, which calls many modules."""
OUTPUTS = "lean_outputs"
"""Attribute of a module: what it makes of a sample, by the sample's shape."""
SMALLER = 4
"""A run's slices are so many times smaller than a block's, which edits in place: in a run several maps of a
slice are in memory at a time, and the whole batch's last one."""
MOST_GROWTH = 64
"""No module makes more than so many times its input: a small one is not looked at further."""
MOST_SLICES = 64
"""A batch has no more slices: of one that is so large, a slice is small beside the rest."""
SAMPLEWISE = (
    nn.Conv2d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid,
    nn.SiLU, nn.GELU, nn.Sigmoid, nn.Tanh, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.MaxPool2d, nn.Identity,
    nn.Upsample, nn.UpsamplingBilinear2d, nn.Dropout, nn.ConvTranspose2d, nn.LeakyReLU, nn.ELU, nn.SELU,
    nn.CELU, nn.Mish, nn.Softplus, nn.PReLU,
)  # fmt: skip
"""Modules without children that treat each sample by itself, but for batch statistics."""


class LeanSequence(Lean):
    """Modules one after the other, in runs."""

    def forward(self, x: Tensor) -> Tensor:
        """Runs every module."""
        return walk(x, self, list(_unrolled(self)))


class Chain(NamedTuple):
    """The children that a module's forward calls first, one after the other."""

    names: tuple[str, ...]
    whole: bool
    """The forward does nothing else."""
    settings: dict[str, Any]
    """The module's plain attributes, on which the forward may depend."""


class LeanChain(Lean):
    """A module whose code begins with children one after the other: these run as in a sequence."""

    lean_chains: dict[bool, Chain | None]
    """In training mode, and in evaluation mode."""

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Runs the children, then the class's own code, for which they hand on what they get."""
        chain = self.chain()
        if chain is None or named or len(inputs) != 1 or not isinstance(inputs[0], Tensor):
            with functions_of(self):
                return self.stock_class.forward(self, *inputs, **named)
        x = walk(inputs[0], self, list(_unrolled(self)))
        if chain.whole:
            return x
        with functions_of(self):
            return _behind(self, chain.names, x)

    def chain(self) -> Chain | None:
        """Returns the children to run, None if the module is not as it was when they were found."""
        chain: Chain | None = vars(self).get("lean_chains", {}).get(self.training)
        return chain if chain is not None and chain.settings == _settings(self) else None


def find_chains(module: nn.Module) -> dict[bool, Chain | None]:
    """Returns the children that a module's class calls first, by mode, if there are several."""
    found: dict[bool, Chain | None] = {}
    for training in (True, False):
        graph = _traced(module, (), training)
        names, whole = ([], False) if graph is None else _first_calls(graph)
        if names and _traced(module, names, training) is None:  # it reads an attribute of a child
            names = []
        found[training] = (
            Chain(tuple(names), whole, _settings(module)) if len(names) > 1 or (names and whole) else None
        )
    return found


def walk(x: Tensor, owner: nn.Module, modules: Sequence[nn.Module]) -> Tensor:
    """Runs modules below `owner` one after the other, in runs if the batch is cut into slices."""
    start = 0
    while start < len(modules):
        x, number = run_first_blocks(x, modules[start:])
        if number == 0:
            run = _run(x, modules[start:])
            number = max(1, len(run.modules))
            x = _run_slices(x, owner, run) if run.modules else modules[start](x)
        start += number
    return x


@dataclass
class _Run:
    modules: list[nn.Module]
    step: int
    """Samples per slice."""


_NONE = _Run([], 0)


class _Extent(NamedTuple):
    """What a module makes of a sample."""

    largest: int
    """Elements of what is in memory at a time: of a block the largest map inside, else input and output."""
    output: tuple[int, ...]
    dtype: torch.dtype


def _run_slices(x: Tensor, owner: nn.Module, run: _Run) -> Tensor:
    def forward(part: Tensor) -> Tensor:
        for module in run.modules:
            part = module(part)
        return part

    n_slices = min(MOST_SLICES, -(-len(x) // run.step))
    how = next(module.lean_execution for module in run.modules if isinstance(module, Lean))
    # The function that makes floats of bytes is there in forward only.
    recompute = how.recompute == "block" and n_slices >= SLICES_WORTH_RECOMPUTING and x.is_floating_point()
    return run_in_slices(x, Sliced(owner, run.modules, forward), -(-len(x) // n_slices), recompute)


def _run(x: Tensor, modules: Sequence[nn.Module]) -> _Run:
    """Returns the modules at the start that are worth running in slices together: one of them makes more
    than a slice of the batch, and one is no block, of which there are better runs.
    """
    if x.dim() != 4 or len(x) < 2 or not x.numel() or getattr(modules[0], "inplace", False):
        return _NONE
    first = next((module.lean_execution for module in modules if isinstance(module, Lean)), Execution())
    if MOST_GROWTH * x.numel() * x.element_size() <= first.slice_bytes(takes_cpu_path(x)):
        return _NONE
    run, form = _Run([], len(x)), memory_format(x)
    sample, n, most, largest = x, len(x), 0, 0
    how: Execution | None = None
    for module in modules:
        own = module.lean_execution if isinstance(module, Lean) else how
        if own is None or (how is not None and own != how) or not _is_walked(module):
            break
        extent = _extent(module, sample, form)
        if extent is None:
            break
        how = own
        n_bytes = extent.largest * itemsize_of(sample)
        samples = max(1, how.slice_bytes(takes_cpu_path(x)) // (SMALLER * n_bytes))
        if n_bytes * n <= how.stock_below_kib * 2**10 or samples >= n:
            break
        extra = MOST_EXTRA_OF_CODE if isinstance(module, LeanSamplewise) else MOST_EXTRA_SLICES
        if max(most, samples) > extra * min(run.step, samples):
            break
        run.modules.append(module)
        run.step, most, largest = min(run.step, samples), max(most, samples), max(largest, n_bytes * n)
        sample = x.new_empty((), dtype=extent.dtype).expand(n, *extent.output)
    small = how is None or largest <= how.slice_bytes(takes_cpu_path(x))
    return _NONE if small or all(isinstance(module, LeanBlock) for module in run.modules) else run


def _is_walked(module: nn.Module) -> bool:
    """Whether a module treats each sample by itself now, and nothing looks at it."""
    if isinstance(module, checkpoint_segment) or reason_to_leave(module) is not None:
        return False
    if isinstance(module, LeanBlock | LeanSamplewise):
        return is_sliced(module)
    known = is_norm_with_activation(module) or any(keeps_forward(module, cls) for cls in SAMPLEWISE)
    return known and is_sliced(module) and not draws(module) and not getattr(module, "return_indices", False)


def _extent(module: nn.Module, x: Tensor, form: torch.memory_format) -> _Extent | None:
    """Returns what `module` makes of a sample of `x` so laid out; None if that is no map, or it refuses."""
    if isinstance(module, LeanBlock):
        return _block_extent(module, x)
    known: dict[tuple[int, ...], _Extent | None] = vars(module).setdefault(OUTPUTS, {})
    shape = tuple(x.shape[1:])
    if shape not in known:
        forward = module.stock_forward if isinstance(module, LeanSamplewise) else module
        try:
            sizes, y = measured(module, forward, x.new_zeros((1, *shape)).contiguous(memory_format=form))
        except RuntimeError:  # it will be called with the whole batch, and say what is wrong
            return None
        inside = isinstance(module, LeanSamplewise)
        largest = max(*sizes, y.numel()) if inside else math.prod(shape) + y.numel()
        known[shape] = _Extent(largest, tuple(y.shape[1:]), y.dtype) if y.dim() == 4 else None
    return known[shape]


def _block_extent(block: LeanBlock, x: Tensor) -> _Extent | None:
    shape = tuple(x.shape[1:])
    ready = block.ready(x, shape, block.prepares(x))
    if ready is None:
        return None
    largest, output = block.lean_reader.extents[shape]
    dtype = x.dtype if x.is_floating_point() else ready.tensors[0][0].dtype  # it makes floats of bytes
    return _Extent(max(largest, math.prod(shape)), output, dtype)


def _unrolled(module: nn.Module) -> Iterator[nn.Module]:
    """Yields the modules that a sequence or a chain calls one after the other, those inside of others too."""
    chain = module.chain() if isinstance(module, LeanChain) else None
    names = module._modules if chain is None else chain.names
    for name in names:
        child = cast(nn.Module, module._modules[name])
        if _is_open(child):
            yield from _unrolled(child)
        else:
            yield child


def _is_open(module: nn.Module) -> bool:
    if isinstance(module, checkpoint_segment | LeanBlock | LeanSamplewise) or has_hooks(module):
        return False
    if isinstance(module, LeanChain):
        chain = module.chain()
        return "forward" not in vars(module) and chain is not None and chain.whole
    return keeps_forward(module, nn.Sequential)


def _traced(module: nn.Module, done: Sequence[str], training: bool) -> fx.Graph | None:
    stand_in = _stand_in(module, done)
    stand_in.training = training
    return trace_children(stand_in)


def _first_calls(graph: fx.Graph) -> tuple[list[str], bool]:
    """Returns the children that get nothing but what the one before made, from the input on, and whether the
    last one's output is returned.
    """
    reads = Counter(
        str(node.target).partition(".")[0] for node in graph.nodes if node.op in ("call_module", "get_attr")
    )
    names: list[str] = []
    last = next(iter(graph.nodes))
    while len(last.users) == 1:
        (user,) = last.users
        if user.op == "output":
            return names, user.args[0] is last
        name = str(user.target)
        if user.op != "call_module" or user.args != (last,) or user.kwargs or reads[name] != 1:
            break
        names.append(name)
        last = user
    return names, False


class _HandsOn(nn.Module):
    """Stands where a child was that has run already."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def _stand_in(module: nn.Module, done: Sequence[str]) -> nn.Module:
    """Returns a module of the stock class with all that `module` has, but for the children that are done."""
    cls = base_class(module)
    stand_in: nn.Module = object.__new__(cls)
    children = module._modules | {name: _HandsOn() for name in done}
    vars(stand_in).update(vars(module) | {"_modules": children})
    return stand_in


def _behind(module: nn.Module, done: Sequence[str], x: Tensor) -> Any:
    """Runs the class's own code behind the children that are done, and keeps what it notes on the module."""
    stand_in = _stand_in(module, done)
    y = base_class(module).forward(stand_in, x)
    mine = vars(module)
    for name, value in vars(stand_in).items():
        if name != "_modules" and (name not in mine or mine[name] is not value):
            mine[name] = value
    return y


def _settings(module: nn.Module) -> dict[str, Any]:
    """Returns a module's switches, which may change what its code calls."""
    return {
        name: value
        for name, value in vars(module).items()
        if name != "training" and (value is None or isinstance(value, bool | str))
    }
