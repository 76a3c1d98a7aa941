"""Which device a configuration means on this machine."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from tinytl.errors import ConfigError


class _Path:
    """Which device's path tensors of a CPU take."""

    emulates_gpu = False


@contextmanager
def gpu_emulated() -> Iterator[None]:
    """Inside of it tensors of a CPU take the path of a GPU through this project's code: its slices, masks and
    norms, with the CPU's kernels. For tests on machines without a GPU.
    """
    _Path.emulates_gpu = True
    try:
        yield
    finally:
        _Path.emulates_gpu = False


@contextmanager
def with_threads(number: int) -> Iterator[None]:
    """Inside of it torch has so many threads on the CPU; what kernels allocate inside depends on them."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def takes_cpu_path(tensor: Tensor) -> bool:
    """Whether code that differs between devices treats `tensor`, real or fake, as one of a CPU."""
    # Not `is_cpu`: C++ is told that fake tensors of a GPU are a CPU's (`tinytl.memory.storage_tracker`).
    return is_on_cpu_path(tensor.device)


def is_on_cpu_path(device: torch.device) -> bool:
    """Whether code that differs between devices treats tensors of `device` as those of a CPU."""
    return device.type == "cpu" and not _Path.emulates_gpu


def resolve_device(name: str) -> torch.device:
    """Returns the device that `auto`, `cpu` or `cuda` stands for on this machine.

    Raises:
        ConfigError: for `cuda` if torch finds no GPU.
    """
    available = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if available else "cpu"
    if name == "cuda" and not available:
        raise ConfigError("device=cuda, but torch finds no GPU here: use device auto or cpu")
    return torch.device(name)


def planned_device(name: str) -> torch.device:
    """Returns the device that `auto`, `cpu` or `cuda` stands for, `cuda` also if there is no GPU here: what a
    configuration needs there can be predicted anywhere.
    """
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def has_graphs(name: str) -> bool:
    """Whether the device that `auto`, `cpu` or `cuda` stands for can record a step as a graph."""
    return planned_device(name).type == "cuda" or _Path.emulates_gpu


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Returns a CPU's tensor on `device`; a GPU copies it while this process goes on."""
    if device.type != "cuda":
        return tensor.to(device)
    pinned = tensor if isinstance(tensor, FakeTensor) else tensor.pin_memory()
    return pinned.to(device, non_blocking=True)


def autocast_kind(device_type: str) -> str:
    """Returns the kind of device whose autocast counts for tensors of `device_type`.

    That of a GPU is off on a machine without one, where fake tensors may be a GPU's. C++ takes those for a
    CPU's, and so does everything here that casts (`tinytl.memory.absent_gpu` for torch's own functions).
    """
    return "cpu" if device_type == "cuda" and not torch.cuda.is_available() else device_type


def copy_into(target: Tensor, tensor: Tensor) -> None:
    """Fills `target` with a CPU's tensor; a GPU copies it while this process goes on."""
    on_gpu = target.device.type == "cuda"
    pinned = tensor.pin_memory() if on_gpu and not isinstance(tensor, FakeTensor) else tensor
    target.copy_(pinned, non_blocking=on_gpu)


class HostCopy:
    """A copy of a GPU's tensor on the host that is made while the GPU goes on."""

    def __init__(self, tensor: Tensor) -> None:
        self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._host.copy_(tensor, non_blocking=True)
        self._made = torch.cuda.Event()
        self._made.record()

    def is_made(self) -> bool:
        """Whether `read` would return at once."""
        return self._made.query()

    def read(self) -> Tensor:
        """Returns the copy, once the GPU has made it."""
        self._made.synchronize()
        return self._host


def device_name(device: torch.device) -> str:
    """Returns the maker's name of a GPU, or of this machine's processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
