"""Memory that a step frees stays in the process for the next one.

The C library gives large pieces back to the system, and asks for them again in the next step: each page is
then cleared anew, which took 4 to 10 % of a step here. The peak stays as it is, or grows by a few hundredths.
"""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Settings of `mallopt` in glibc's malloc.h."""
KEPT_BYTES = 1 << 29
"""Freed memory at the end of a heap (each thread may have one) that is not given back."""
LARGE_BYTES = 32 << 20
"""Pieces that are larger always go back; it is the most that glibc takes."""


def keep_freed_memory(n_bytes: int = KEPT_BYTES) -> bool:
    """Keeps up to so much of what is freed, from now on; returns whether the C library does so."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_TRIM_THRESHOLD, n_bytes) and mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES))


def give_back_freed_memory() -> None:
    """Ends what `keep_freed_memory` began, and gives back what is kept.

    Up to twice `LARGE_BYTES` may stay, as glibc has it once a large piece was freed.
    """
    if keep_freed_memory(2 * LARGE_BYTES):
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Inside of it freed memory stays in the process; it goes back at the end."""
    keep_freed_memory()
    try:
        yield
    finally:
        give_back_freed_memory()
