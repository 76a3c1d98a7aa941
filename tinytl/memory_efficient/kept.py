"""Who keeps tensors for backward, and how much: every module and every function that a network calls."""

import copy
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.overrides import TorchFunctionMode, resolve_name

from tinytl.memory_efficient.batch import Batch, call, changed, tensors_of
from tinytl.memory_efficient.lean_modules import Lean


class Kept(NamedTuple):
    """What one module, or one function that its own code calls, keeps for backward."""

    module: str
    """As in `named_modules()`; empty for the network itself."""
    what: str
    """The module's class, or the function: `torch.nn.functional.relu`."""
    mib: float
    lean: bool
    """The module has a lean forward, so it keeps no more than backward reads."""

    def __str__(self) -> str:
        return f"{self.mib:8.2f} MiB  {self.module or 'the network'}: {self.what}"


def find_kept(net: nn.Module, example: Batch) -> list[Kept]:
    """Returns what a forward of `net` on a batch like `example` keeps beside parameters, largest first.

    A copy of `net` runs on fake tensors, so that it needs no memory and `net` stays as it is; hooks that it
    has are called. A tensor that several keep counts for the first.

    Raises:
        RuntimeError: from torch, if code of `net` reads the numbers of a tensor, which fake tensors have not.
    """
    mode = FakeTensorMode()
    with FakeCopyMode(mode):
        net = copy.deepcopy(net)
    example = changed(example, mode.from_tensor, mode.from_tensor)
    known = [*net.parameters(), *net.buffers(), *tensors_of(example)]
    seen = {tensor.untyped_storage()._cdata for tensor in known}
    held: list[Tensor] = []  # so that no storage gets the address of one that is gone
    sums: dict[tuple[str, str, bool], int] = {}
    place, function = _Place(net), _Function()

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in seen:
            seen.add(storage._cdata)
            held.append(tensor)
            name, module = place.stack[-1]
            leaf = function.name is None or next(module.children(), None) is None
            lean = isinstance(module, Lean) and leaf  # the code of a block or a chain is its class's own
            key = (name, _class_name(module) if leaf else str(function.name), lean)
            sums[key] = sums.get(key, 0) + storage.nbytes()
        return tensor

    with mode, torch.enable_grad(), place, function:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            call(net, example)
    kept = [Kept(name, what, n_bytes / 2**20, lean) for (name, what, lean), n_bytes in sums.items()]
    return sorted(kept, key=lambda one: -one.mib)


def _class_name(module: nn.Module) -> str:
    return (module.stock_class if isinstance(module, Lean) else type(module)).__name__


class _Place:
    """Inside of it, `stack` holds the modules that run, by name, the innermost last."""

    def __init__(self, net: nn.Module) -> None:
        self._names = {module: name for name, module in net.named_modules()}
        self.stack: list[tuple[str, nn.Module]] = [("", net)]

    def __enter__(self) -> None:
        register = torch.nn.modules.module
        self._handles = [
            register.register_module_forward_pre_hook(self._enter),
            register.register_module_forward_hook(self._leave, always_call=True),
        ]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def _enter(self, module: nn.Module, _inputs: Any) -> None:
        self.stack.append((self._names.get(module, type(module).__name__), module))

    def _leave(self, _module: nn.Module, _inputs: Any, _output: Any) -> None:
        self.stack.pop()


class _Function(TorchFunctionMode):
    """Inside of it, `name` is the torch function that runs, None between two."""

    name: str | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        outer, self.name = self.name, self.name or resolve_name(func) or func.__name__
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.name = outer
