"""Blocks of any structure, a few samples at a time: what they compute stays their own code.

Squeeze-excite, layer norms, concatenations, any activation. The batch is walked in slices, so that no map
inside is larger than a slice's. Each slice keeps what its modules keep; or it keeps its input alone, and runs
again in backward, so that what all modules keep exists for one slice. Either way autograd takes a slice back.
That needs samples that do not depend on each other, so classes are known by name.
Source: Training Deep Nets with Sublinear Memory Cost, Chen et al. 2016, here with slices.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.graph import get_gradient_edge
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.stateless import _reparametrize_module

from tinytl.device import autocast_kind
from tinytl.memory_efficient.block.reading import uses_batch_statistics
from tinytl.memory_efficient.block.stock import base_class, has_hooks
from tinytl.memory_efficient.block.working import samples_in_slice
from tinytl.memory_efficient.lean_functions import functions_of
from tinytl.memory_efficient.lean_modules import Lean
from tinytl.memory_efficient.ops.first_derivative import first_derivative
from tinytl.memory_efficient.ops.layout import empty_like, memory_format
from tinytl.memory_efficient.ops.precision import gradient_wanted
from tinytl.memory_efficient.ops.walk import WALK
from tinytl.networks.backbones.known_blocks import is_known_block
from tinytl.networks.backbones.sequence import draws_numbers

EXTENTS = "lean_extents"
"""Attribute of a block: elements per sample of its largest intermediate, by the input's shape `(C, H, W)`."""


class LeanSamplewise(Lean):
    """A block that is walked in slices, and recomputed from its input if `recompute` is `block`.

    It runs as it is if its samples depend on each other (batch norm in training mode), if a module of it has
    a hook, which would see slices, or if its input is no `(N, C, H, W)`.
    """

    def lean_forward(self, x: Tensor) -> Tensor:
        """Returns what the block returns for `x`."""
        recompute = self.lean_execution.recompute == "block" and not WALK.recomputes
        if x.dim() != 4 or not x.numel() or (not recompute and self._fits_slice(x)) or not is_sliced(self):
            return self.stock_forward(x)
        step = samples_in_slice(self.largest(x), x.element_size(), self.lean_execution, x)
        return run_in_slices(x, Sliced(self, (self,), self.stock_forward), step, recompute)

    def stock_forward(self, x: Tensor) -> Tensor:
        """Runs the class's own code."""
        with functions_of(self):
            return super().stock_forward(x)

    def largest(self, x: Tensor) -> int:
        """Returns the elements per sample of the largest output of a module inside, for inputs like `x`."""
        known: dict[tuple[int, ...], int] = vars(self).setdefault(EXTENTS, {})
        sample = tuple(x.shape[1:])
        if sample not in known:
            known[sample] = max(measured(self, self.stock_forward, x)[0])
        return known[sample]

    def _fits_slice(self, x: Tensor) -> bool:
        """Whether the batch is known to be one slice, which is asked often and must be quick."""
        known = vars(self).get(EXTENTS, {}).get(tuple(x.shape[1:]))
        how = self.lean_execution
        return known is not None and samples_in_slice(known, x.element_size(), how, x) >= len(x)


class Sliced(NamedTuple):
    """What runs a few samples at a time."""

    owner: nn.Module
    """The modules are below it, or it is the only one."""
    modules: Sequence[nn.Module]
    forward: Callable[[Tensor], Tensor]

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """Returns the modules' parameters by their names in `owner`."""
        mine = {parameter for module in self.modules for parameter in module.parameters()}
        return {name: parameter for name, parameter in self.owner.named_parameters() if parameter in mine}


def run_in_slices(x: Tensor, sliced: Sliced, step: int, recompute: bool) -> Tensor:
    """Returns what the modules make of `x`, computed `step` samples at a time.

    Each slice keeps for backward what its modules keep, or its input alone, if it is to be recomputed.
    """
    named = sliced.named_parameters()
    if not gradient_wanted(x, *named.values()):
        return _forward(sliced.forward, x, step)
    if recompute:
        return cast(Tensor, RecomputedFunction.apply(x, sliced, step, tuple(named), *named.values()))
    if step >= len(x):
        return sliced.forward(x)
    return cast(Tensor, SlicedFunction.apply(x, sliced.forward, step, *named.values()))


class SlicedFunction(torch.autograd.Function):
    """Modules in slices under autograd, each slice with a graph of its own; use `run_in_slices`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor], step: int, *parameters: Tensor
    ) -> Tensor:
        """Keeps the slices' graphs, which keep what the modules inside keep."""
        ctx.step, ctx.parameters, ctx.like = step, parameters, x.shape
        ctx.graphs = []
        whole: Tensor | None = None
        with torch.enable_grad():
            for start in range(0, len(x), step):
                part = x[start : start + step].detach()
                if ctx.needs_input_grad[0]:
                    part = _Beginning.apply(torch.empty(0, requires_grad=True), part)
                y = function(part)
                begins = get_gradient_edge(part) if part.requires_grad else None
                ctx.graphs.append((begins, get_gradient_edge(y) if y.requires_grad else None))
                if whole is None:
                    whole = empty_like((len(x), *y.shape[1:]), y, memory_format(y))
                whole[start : start + step] = y.detach()
                del part, y  # not beside the next slice
        assert whole is not None
        return whole.detach()

    @staticmethod
    @first_derivative
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Walks the slices; returns the gradients of the input and of each parameter."""
        if ctx.graphs is None:
            raise RuntimeError(
                "a lean block went backward before, and what it kept is gone: leave out retain_graph=True, "
                "or give the net its own forward back with undo_memory_efficient_"
            )
        graphs, ctx.graphs = ctx.graphs, None
        wanted = [p for p, need in zip(ctx.parameters, ctx.needs_input_grad[3:], strict=True) if need]
        sums: list[Tensor | None] = [None] * len(wanted)
        whole: Tensor | None = None
        for index, (begins, ends) in enumerate(graphs):
            rows = slice(index * ctx.step, (index + 1) * ctx.step)
            graphs[index] = None
            if ends is None:
                continue
            inputs = wanted if begins is None else [begins, *wanted]
            made = list(torch.autograd.grad((ends,), inputs, (grad[rows],), allow_unused=True))
            of_x = None if begins is None else made.pop(0)
            sums = _added(sums, made)
            if of_x is not None:
                if whole is None:
                    whole = empty_like(ctx.like, of_x, memory_format(of_x))
                whole[rows] = of_x
        found = iter(sums)
        of_parameters = [next(found) if need else None for need in ctx.needs_input_grad[3:]]
        return whole, None, None, *of_parameters


class _Beginning(torch.autograd.Function):
    """Where a slice's graph begins; unlike a leaf, it does not hold the slice."""

    @staticmethod
    def forward(ctx: Any, _anchor: Tensor, part: Tensor) -> Tensor:
        return part.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:
        return None, None


class RecomputedFunction(torch.autograd.Function):
    """Recomputed modules under autograd; use `run_in_slices`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, sliced: Sliced, step: int, names: Sequence[str], *parameters: Tensor
    ) -> Tensor:
        """Keeps the input and, if a module draws random numbers, where they begin."""
        ctx.sliced, ctx.step, ctx.names = sliced, step, names
        kind = autocast_kind(x.device.type)
        ctx.autocast = (kind, torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else None
        ctx.random = (
            _random_state(x) if any(map(draws, sliced.modules)) and not isinstance(x, FakeTensor) else None
        )
        ctx.save_for_backward(x, *parameters)
        return _forward(sliced.forward, x, step)

    @staticmethod
    @first_derivative
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Recomputes slice by slice; returns the gradients of the input and of each parameter."""
        x, *parameters = ctx.saved_tensors
        needs_x, *needs = ctx.needs_input_grad[:1] + ctx.needs_input_grad[4:]
        mine = [p.detach().requires_grad_(need) for p, need in zip(parameters, needs, strict=True)]
        sums: list[Tensor | None] = [None] * len(mine)
        whole: Tensor | None = None
        with (
            _as_in_forward(ctx, x),
            _reparametrize_module(ctx.sliced.owner, dict(zip(ctx.names, mine, strict=True))),
        ):
            for start in range(0, len(x), ctx.step):
                rows = slice(start, start + ctx.step)
                part = x[rows].detach().requires_grad_(needs_x)
                of_x, made = _backward(ctx.sliced, part, mine, grad[rows])
                sums = _added(sums, made)
                if of_x is None:
                    continue
                if ctx.step >= len(x):
                    whole = of_x
                    break
                whole = torch.empty_like(x) if whole is None else whole
                whole[rows] = of_x
        return whole, None, None, None, *sums


def _added(sums: Sequence[Tensor | None], more: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [
        new if old is None else old if new is None else old + new for old, new in zip(sums, more, strict=True)
    ]


def _backward(
    sliced: Sliced, part: Tensor, parameters: Sequence[Tensor], grad: Tensor
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Returns the gradients of a slice and of each parameter, None for what needs or gets none."""
    with torch.enable_grad():
        WALK.recomputes = True
        try:
            y = sliced.forward(part)
        finally:
            WALK.recomputes = False
        wanted = [tensor for tensor in (part, *parameters) if tensor.requires_grad]
        made = iter(torch.autograd.grad(y, wanted, grad, allow_unused=True))
    found = [next(made) if tensor.requires_grad else None for tensor in (part, *parameters)]
    return found[0], found[1:]


def _forward(function: Callable[[Tensor], Tensor], x: Tensor, step: int) -> Tensor:
    """Returns the function's output, computed `step` samples at a time without a graph."""
    x = x.detach()  # who watches the modules inside must not wait for its gradient
    with torch.no_grad():
        if step >= len(x):
            return function(x)
        whole: Tensor | None = None
        for start in range(0, len(x), step):
            y = function(x[start : start + step])
            if whole is None:
                whole = empty_like((len(x), *y.shape[1:]), y, memory_format(y))
            whole[start : start + step] = y
    assert whole is not None
    return whole


def measured(module: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> tuple[list[int], Tensor]:
    """Runs `forward` of a module on one sample of `x`; returns the elements of that and of what each module
    inside makes, and the output.
    """
    sizes = [math.prod(x.shape[1:])]

    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel())

    handles = [child.register_forward_hook(note) for child in module.modules() if child is not module]
    state = None if isinstance(x, FakeTensor) else _random_state(x)
    try:
        with torch.no_grad():
            y = forward(x[:1].detach())
    finally:
        for handle in handles:
            handle.remove()
        if state is not None:
            _set_random_state(x, state)
    return sizes, y


def is_sliced(block: nn.Module) -> bool:
    """Whether the samples of a known block do not depend on each other now, and nothing looks inside."""
    for module in block.modules():
        if isinstance(module, _BatchNorm) and uses_batch_statistics(module):
            return False
        if module is not block and (has_hooks(module) or "forward" in vars(module)):
            return False
    return True


def draws(block: nn.Module) -> bool:
    """Whether a forward may draw random numbers."""
    return any(module.training and draws_numbers(base_class(module)) for module in block.modules())


def _random_state(x: Tensor) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(x.device) if x.is_cuda else None


def _set_random_state(x: Tensor, state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], x.device)


@contextmanager
def _as_in_forward(ctx: Any, x: Tensor) -> Iterator[None]:
    """Inside of it autocast and random numbers are those of the forward pass."""
    autocast: AbstractContextManager[object] = nullcontext()
    if ctx.autocast is not None:
        autocast = torch.autocast(ctx.autocast[0], dtype=ctx.autocast[1])
    now = None if ctx.random is None else _random_state(x)
    try:
        if ctx.random is not None:
            _set_random_state(x, ctx.random)
        with autocast:
            yield
    finally:
        if now is not None:
            _set_random_state(x, now)


def is_samplewise(module: nn.Module) -> bool:
    """Whether a module's class is known to treat each sample by itself, if none of its norms mixes them."""
    return base_class(module) in _REGISTERED or is_known_block(base_class(module))


def register_samplewise(cls: type[nn.Module]) -> None:
    """Registers a class of blocks: `(N, C, H, W)` to `(N, C', H', W')`, each sample by itself.

    The input must not be edited in place. Batch norm may be inside.

    Raises:
        ValueError: for a class that is registered already.
    """
    if cls in _REGISTERED or is_known_block(cls):
        raise ValueError(f"{cls.__name__} is registered already")
    _REGISTERED.add(cls)


_REGISTERED: set[type[nn.Module]] = set()
