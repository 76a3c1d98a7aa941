"""The memory that a step really needs, as the allocator reports it."""

import resource
from collections.abc import Iterable
from types import TracebackType

import torch
from torch import Tensor, nn

from tinytl.memory_efficient.ops.measured_scratch import peak_of_events

MIB = 2**20


class PeakMeter:
    """Measures the peak of a training step: tensors alive at its start, plus what the allocator adds.

    On a CPU: allocation events of torch's profiler. On a GPU: `torch.cuda.max_memory_allocated`. `peak_mib`
    counts the net, the optimiser's state and the batch; other tensors of the process are left out.
    """

    peak_mib: float

    def __init__(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        batch: Iterable[Tensor],
        *,
        enabled: bool = True,
    ) -> None:
        self.enabled = enabled
        if enabled:
            self._cuda = next(net.parameters()).is_cuda
            self._start_bytes = storage_bytes([*state_tensors(net, optimizer), *batch])

    def __enter__(self) -> "PeakMeter":
        if self.enabled and self._cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._allocated_before = torch.cuda.memory_allocated()
        elif self.enabled:
            self._profile = torch.profiler.profile(
                activities=[torch.profiler.ProfilerActivity.CPU],
                profile_memory=True,
                acc_events=True,  # there is one cycle; without it, torch before 2.15 warns that there is
            )
            self._profile.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.enabled:
            return
        if self._cuda:
            torch.cuda.synchronize()
            above = torch.cuda.max_memory_allocated() - self._allocated_before
        else:
            self._profile.__exit__(kind, error, trace)
            above = 0 if error else peak_of_events(self._profile)
        self.peak_mib = (self._start_bytes + above) / MIB


def state_tensors(net: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Returns parameters, buffers, gradients and the optimiser's state."""
    parameters = list(net.parameters())
    gradients = [p.grad for p in parameters if p.grad is not None]
    moments = [v for state in optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
    return [*parameters, *net.buffers(), *gradients, *moments]


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Returns the bytes behind `tensors`, each storage counted once."""
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def process_peak_mib() -> float:
    """Returns the peak resident size of this process: torch's libraries and data included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
