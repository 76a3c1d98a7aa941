"""Out of memory: distinguished from other failures, with the memory that was needed."""

import errno
import re
from pathlib import Path

import torch

from tinytl.memory.measure import MIB, process_peak_mib

_UNITS_MIB = {"bytes": 1 / MIB, "KiB": 2**-10, "MiB": 1.0, "GiB": 2.0**10, "TiB": 2.0**20, "PiB": 2.0**30}
_SIZE = r"([\d.]+) (bytes|[KMGTP]iB)"
_TRIED = re.compile(rf"(?:[Tt]ried to allocate|Unable to allocate|Requested size:) {_SIZE}")
"""The size of the failed request, in messages of torch's allocators (CPU, CUDA) and of numpy."""
_ALLOCATED = re.compile(rf"{_SIZE} is allocated by PyTorch")
"""The memory that this process held at that moment, in messages of CUDA's allocator."""
_UNUSED = re.compile(rf"{_SIZE} is reserved by PyTorch but unallocated")
"""The memory that CUDA's allocator kept and could not use."""
_ON_GPU = ("CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
_ON_HOST = ("DefaultCPUAllocator: can't allocate memory", "Cannot allocate memory")


def out_of_memory_need_mib(error: BaseException) -> float | None:
    """Returns the MiB that this process needed at least, if it ran out of memory; None for other errors.

    On a GPU: what torch's allocator held, plus the failed request. On the host: the process's peak resident
    size, libraries and images included, plus the failed request if the error states it. Call this in the
    process that failed, before its next trial, because peaks belong to a process.
    """
    if not is_out_of_memory(error):
        return None
    tried = tried_mib(error)
    if not is_out_of_gpu_memory(error):
        return process_peak_mib() + tried
    return max(torch.cuda.max_memory_allocated() / MIB, _mib(_ALLOCATED, error)) + tried


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that a GPU or the host had no memory left."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    of_host = isinstance(error, MemoryError) or any(text in str(error) for text in _ON_HOST)
    return of_host or is_out_of_gpu_memory(error)


def tried_mib(error: BaseException) -> float:
    """Returns the size of the allocation that failed, in MiB; 0 if the error does not say."""
    return _mib(_TRIED, error)


def unused_mib(error: BaseException) -> float:
    """Returns what CUDA's allocator kept and could not use, in MiB; 0 if the error does not say."""
    return _mib(_UNUSED, error)


def forget_peaks() -> None:
    """Resets this process's peaks, on the host and on a GPU, for the next of several trials in it."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # no Linux, or not allowed: the peak is that of all trials
        pass


def is_out_of_gpu_memory(error: BaseException) -> bool:
    """Whether `error` says that a GPU had no memory left."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(text in str(error) for text in _ON_GPU)


def _mib(pattern: re.Pattern[str], error: BaseException) -> float:
    found = pattern.search(str(error))
    return float(found[1]) * _UNITS_MIB[found[2]] if found else 0.0
