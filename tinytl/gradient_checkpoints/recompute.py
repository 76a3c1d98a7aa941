"""What recomputing a forward must restore or leave unchanged: randomness, autocast, statistics."""

import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules.batchnorm import _NormBase

from tinytl.device import autocast_kind

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_WARNED: weakref.WeakSet[Any] = weakref.WeakSet()


class Surroundings:
    """Random generators and autocast as they are now, for CPU and for the devices of `tensors`."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        tensors = list(tensors)
        devices = {tensor.device for tensor in tensors}
        drawing = {tensor.device for tensor in tensors if not isinstance(tensor, FakeTensor)}
        self._cpu_state = torch.get_rng_state()
        self._cuda_states = {d: torch.cuda.get_rng_state(d) for d in drawing if d.type == "cuda"}
        kinds = {"cpu"} | {autocast_kind(device.type) for device in devices}
        self._autocasts: list[dict[str, Any]] = [
            {
                "device_type": kind,
                "enabled": torch.is_autocast_enabled(kind),
                "dtype": torch.get_autocast_dtype(kind),
                "cache_enabled": torch.is_autocast_cache_enabled(),
            }
            for kind in sorted(kinds)
            if torch.amp.is_autocast_available(kind)
        ]

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Restores both; the present state returns at the end. May be entered again."""
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(list(self._cuda_states), device_type="cuda"))
            torch.set_rng_state(self._cpu_state)
            for device, state in self._cuda_states.items():
                torch.cuda.set_rng_state(state, device)
            for autocast in self._autocasts:
                stack.enter_context(torch.autocast(**autocast))
            yield


class KeepStatistics:
    """A context in which norms of `module` in training mode leave their running statistics unchanged.

    They write to copies. Switching `track_running_stats` off would give the same values, but such a norm
    saves fewer tensors for backward than the first time, which torch's checkpoint reports as an error. May be
    entered again, as backward with `retain_graph` does; None: no module.
    """

    def __init__(self, module: nn.Module | None) -> None:
        self._module = module
        self._kept: list[tuple[dict[str, Tensor | None], str, Tensor]] = []

    def __enter__(self) -> None:
        for norm in self._module.modules() if self._module is not None else ():
            if not isinstance(norm, _NormBase) or not norm.training:
                continue
            for name in _STATISTICS:
                buffer = norm._buffers[name]
                if buffer is not None:
                    self._kept.append((norm._buffers, name, buffer))
                    norm._buffers[name] = buffer.clone()

    def __exit__(self, *_: object) -> None:
        while self._kept:
            buffers, name, buffer = self._kept.pop()
            buffers[name] = buffer


def owner(run_function: Callable[..., Any]) -> nn.Module | None:
    """Returns the module that `run_function` is, or a method of; None if it is neither."""
    if isinstance(run_function, partial):
        return owner(run_function.func)
    if isinstance(run_function, nn.Module):
        return run_function
    bound_to = getattr(run_function, "__self__", None)
    return bound_to if isinstance(bound_to, nn.Module) else None


def name(run_function: Callable[..., Any]) -> str:
    """Returns the class of the module that `run_function` is or belongs to, or its own name."""
    module = owner(run_function)
    if module is not None:
        return str(getattr(module, "stock_class", type(module)).__name__)
    return str(getattr(run_function, "__qualname__", type(run_function).__name__))


def wants_gradient(values: Iterable[object]) -> bool:
    """Whether a tensor among `values` needs a gradient."""
    return any(isinstance(value, Tensor) and value.requires_grad for value in values)


def warn_no_gradient(run_function: Callable[..., Any]) -> None:
    """Warns that a checkpoint has no effect: once per module, once per code of a function."""
    while isinstance(run_function, partial):
        run_function = run_function.func
    # A lambda is a new object in each step; its code is not.
    key: object = owner(run_function)
    if key is None:
        key = getattr(run_function, "__code__", type(run_function))
    if key in _WARNED:
        return
    _WARNED.add(key)
    warnings.warn(
        f"the checkpoint at {name(run_function)} does nothing: neither its inputs nor its parameters need a "
        "gradient; insert checkpoints only where something trains, or let insert_checkpoints_ place them",
        stacklevel=3,
    )
