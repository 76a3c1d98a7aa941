"""Pages of libraries that nobody reads again, given back.

A library is read while it loads, and what was read counts as the process's: 300 MiB of CUDA's. Pages that
were not written can go: who needs one reads it again, mostly from the system's cache. A system that is short
of memory takes them by itself; so the peak is then what a process needs, not what it once looked at.
"""

import ctypes
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

WORTH_KIB = 512
"""Mappings of which less is in memory stay."""
_SMAPS = Path("/proc/self/smaps")
_MADV_DONTNEED = 4
"""Of Linux's mman-common.h: a page of a file that was not written is read again if somebody needs it."""
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \d+ *(.*)\n((?:\w+: .*\n)+)")
"""Addresses, rights, file; and a line for each figure."""
_LIBRARY = re.compile(r"\.so(\.|$)")


class Mapping(NamedTuple):
    """Part of a library in this process's memory."""

    start: int
    n_bytes: int
    resident_kib: int


def release_library_pages() -> float:
    """Gives back the pages of libraries that were not written; returns how many MiB, 0 if not on Linux."""
    if platform.system() != "Linux":
        return 0.0
    try:
        found = list(unwritten_mappings(_SMAPS.read_text()))
    except OSError:  # a system that does not say
        return 0.0
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    released = [one for one in found if madvise(one.start, one.n_bytes, _MADV_DONTNEED) == 0]
    return sum(one.resident_kib for one in released) / 2**10


def unwritten_mappings(smaps: str) -> Iterator[Mapping]:
    """Yields the parts of libraries that cannot be written, and of which no page was, as Linux lists them.

    What was written, such as addresses that the loader filled in, is in memory or swapped out, but in no
    file.
    """
    for start, end, rights, name, lines in _MAPPING.findall(smaps):
        if "w" in rights or not _LIBRARY.search(name):
            continue
        kib = {key: int(value) for key, value in re.findall(r"(\w+): +(\d+) kB", lines)}
        if kib.get("Anonymous") == kib.get("Swap") == 0 and kib["Rss"] >= WORTH_KIB:
            yield Mapping(int(start, 16), int(end, 16) - int(start, 16), kib["Rss"])
