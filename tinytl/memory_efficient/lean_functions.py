"""Activations and pooling that a module's own code calls as functions: they keep what lean modules keep.

`F.relu(self.conv(x))` has no module to make lean. While such code runs, a torch function mode stands between
it and torch, and answers with the function that the lean module has. Every call of torch inside passes
through Python then, so it is there only for classes whose code names one of the functions.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import local
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tinytl.memory_efficient.block.reading import average_pool_spec, max_pool_spec
from tinytl.memory_efficient.block.spec import Execution
from tinytl.memory_efficient.block.stock import base_class
from tinytl.memory_efficient.ops.activation import lean_activation, lean_leaky_relu
from tinytl.memory_efficient.ops.pooling import lean_average_pool, lean_max_pool

FUNCTIONS = "lean_functions"
"""Attribute of a module whose code calls them."""


def calls_functions(module: nn.Module) -> bool:
    """Whether code of the module's class names a function of `NAMES` that is not the name of a child."""
    children = dict(module.named_children())
    names = _names_in(base_class(module))  # type: ignore[arg-type]  # mypy takes a class for no key
    return any(name not in children for name in names)


def functions_of(module: nn.Module) -> AbstractContextManager[object]:
    """Inside of it, functions that the module's code calls are lean, if it was found to call some."""
    idle = FUNCTIONS not in vars(module) or getattr(_RUNS, "on", False) or torch.compiler.is_compiling()
    return nullcontext() if idle else _lean_functions(vars(module)[FUNCTIONS])


def _relu(x: Tensor, inplace: bool = False) -> Tensor:
    return lean_activation(x, "relu", inplace)


def _relu_(x: Tensor) -> Tensor:
    return lean_activation(x, "relu", inplace=True)


def _relu6(x: Tensor, inplace: bool = False) -> Tensor:
    return lean_activation(x, "relu6", inplace)


def _leaky_relu(x: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor | None:
    return lean_leaky_relu(x, negative_slope, inplace) if negative_slope > 0 else None


def _max_pool(
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | None:
    if return_indices or x.dim() != 4:
        return None
    window = nn.MaxPool2d(kernel_size, stride or None, padding, dilation, ceil_mode=ceil_mode)
    return lean_max_pool(x, max_pool_spec(window))


def _average_pool(
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor | None:
    if x.dim() != 4:
        return None
    window = nn.AvgPool2d(
        kernel_size, stride or None, padding, ceil_mode, count_include_pad, divisor_override
    )
    return lean_average_pool(x, average_pool_spec(window))


_LEAN: dict[Callable[..., Any], Callable[..., Tensor | None]] = {
    F.relu: _relu,
    torch.relu: _relu,
    Tensor.relu: _relu,
    torch.relu_: _relu_,
    Tensor.relu_: _relu_,
    F.relu6: _relu6,
    F.leaky_relu: _leaky_relu,
    F.max_pool2d: _max_pool,
    torch.max_pool2d: _max_pool,
    F.avg_pool2d: _average_pool,
}
"""By function: what computes the same and keeps less, or returns None for arguments that it does not know."""
NAMES = frozenset(function.__name__ for function in _LEAN)


class _LeanFunctions(TorchFunctionMode):
    def __init__(self, how: Execution) -> None:
        super().__init__()
        self.small = how.stock_below_kib * 2**10

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        lean = _LEAN.get(func)
        if lean is not None and args and self._takes(args[0]):
            y = lean(*args, **(kwargs or {}))
            if y is not None:
                return y
        return func(*args, **(kwargs or {}))

    def _takes(self, x: Any) -> bool:
        floats = isinstance(x, Tensor) and x.is_floating_point()
        return floats and x.numel() > 0 and x.numel() * x.element_size() > self.small


@contextmanager
def _lean_functions(how: Execution) -> Iterator[None]:
    _RUNS.on = True
    try:
        with _LeanFunctions(how):
            yield
    finally:
        _RUNS.on = False


@functools.cache
def _names_in(cls: type[nn.Module]) -> frozenset[str]:
    """Returns the names of `NAMES` that a class's methods use."""
    found: set[str] = set()
    for base in cls.__mro__:
        if base is nn.Module or base.__module__.startswith("torch.nn"):
            break
        for member in vars(base).values():
            if isinstance(member, FunctionType):
                found |= NAMES.intersection(member.__code__.co_names)
    return frozenset(found)


_RUNS = local()
"""`on`: whether a mode is there in this thread; a second one would see what the first one calls."""
