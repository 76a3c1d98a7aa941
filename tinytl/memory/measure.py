"""The memory that a step really needs, as the allocator reports it."""

import re
import resource
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor, nn

from tinytl.memory_efficient.ops.measured_scratch import AllocatedPeak, memory_profile
from tinytl.training.captured_step import has_recorded

MIB = 2**20


class PeakMeter:
    """Measures the peak of a training step: tensors alive at its start, plus what the allocator adds.

    On a CPU: allocation events of torch's profiler. On a GPU: `torch.cuda.max_memory_allocated`. `peak_mib`
    counts the net, the optimiser's state, the batch and, on a GPU, cuBLAS's workspaces; other tensors of the
    process are left out.
    """

    peak_mib: float

    def __init__(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        batch: Iterable[Tensor],
        *,
        enabled: bool = True,
        recorded: bool = False,
    ) -> None:
        """`batch`: also other tensors that are there, such as averages of weights. `recorded`: steps are CUDA
        graphs, for which cuBLAS has a workspace more.
        """
        self.enabled = enabled
        if enabled:
            self._cuda = next(net.parameters()).is_cuda
            self._start_bytes = storage_bytes([*state_tensors(net, optimizer), *batch])
            if self._cuda:
                held_before = 2 if recorded and has_recorded() else 1
                self._start_bytes += held_before * cublas_workspace_bytes()

    def __enter__(self) -> "PeakMeter":
        if self.enabled and self._cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._allocated_before = torch.cuda.memory_allocated()
        elif self.enabled:
            self._allocated = AllocatedPeak()
            self._profile = memory_profile()
            self._profile.__enter__()
        return self

    def read_so_far(self) -> None:
        """Reads what has happened, which needs no memory from then on; may be called within the step.

        For use after each forward pass: on a CPU, events of a whole step would need as much as the step.
        """
        if self.enabled and not self._cuda:
            self._profile.__exit__(None, None, None)
            self._allocated.add(self._profile)
            self._profile = memory_profile()
            self._profile.__enter__()

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
            if not error:
                self._allocated.add(self._profile)
            del self._profile
            above = self._allocated.n_bytes
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


@cache
def cublas_workspace_bytes() -> int:
    """Returns what cuBLAS keeps allocated on the current GPU from the first product of matrices on.

    Frees cuBLAS's workspaces, which come back with the next product. So it is first asked before a CUDA graph
    holds their addresses.
    """
    matrix = torch.ones(64, 64, device="cuda")
    torch._C._cuda_clearCublasWorkspaces()
    before = torch.cuda.memory_allocated()
    torch.mm(matrix, matrix)  # the result is freed at once, the workspace stays
    torch.cuda.synchronize()
    return torch.cuda.memory_allocated() - before


def process_peak_mib() -> float:
    """Returns the peak resident size of this process: torch's libraries and data included.

    Since it began or, on Linux, since `out_of_memory.forget_peaks`. There the kernel's other counter begins
    with the size of the process that started this one.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        status = ""
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    peak_kib = int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak_kib / 1024
