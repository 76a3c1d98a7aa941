"""One file of features: written as a network computes them, checked whole, read a batch at a time."""

import os
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from io import BufferedReader, FileIO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinytl.device import HostCopy, sent

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""What may go into a classifier, by the name in a file's trailer."""
_TRAILER = struct.Struct("<8sI")
"""The name of the type, and the CRC-32 of all before it."""
_AT_ONCE = 1 << 20


class StoredRows:
    """The features `(n, width)` in an open file that is whole. Only rows that are asked for are in memory."""

    def __init__(self, file: BufferedReader, shape: tuple[int, int], dtype: torch.dtype) -> None:
        self._file = file
        self._shape = shape
        self._dtype = dtype

    def batches(
        self, labels: npt.NDArray[np.int64], batch_size: int, device: torch.device, first: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields features `(N, width)` and labels `(N,)` on `device`, in order, from row `first` on.

        `labels`: those of all rows. The last batch may be smaller.

        Raises:
            OSError: if the disk does not give the rows any more.
        """
        for start in range(first, len(labels), batch_size):
            few = torch.from_numpy(labels[start : start + batch_size])
            yield sent(self._read(start, len(few)), device), sent(few, device)

    def _read(self, first: int, n: int) -> Tensor:
        rows = torch.empty((n, self._shape[1]), dtype=self._dtype)
        self._file.seek(first * self._shape[1] * self._dtype.itemsize)
        if self._file.readinto(_bytes_of(rows)) != rows.nbytes:
            raise OSError(f"{self._file.name} became shorter as it was read")
        return rows


class RowsBeingWritten:
    """Takes features as a network computes them, and writes them in that order."""

    error: OSError | None
    """Why nothing more is written; None: all is well."""

    def __init__(self, out: FileIO, shape: tuple[int, int]) -> None:
        self.error = None
        self._out = out
        self._shape = shape
        self._dtype: torch.dtype | None = None
        self._on_the_way: deque[HostCopy] = deque()
        self._crc = 0
        self._n = 0

    def add(self, features: Tensor) -> None:
        """Takes the next rows `(m, width)`. A GPU is not waited for."""
        assert features.shape[1] == self._shape[1] and self._dtype in (None, features.dtype)
        self._dtype = features.dtype
        if not features.is_cuda:
            self._write_rows(features.detach())
            return
        self._on_the_way.append(HostCopy(features.detach()))
        while self._on_the_way and self._on_the_way[0].is_made():
            self._write_rows(self._on_the_way.popleft().read())

    def finish(self) -> bool:
        """Writes the rest; returns whether all rows came and were written."""
        while self._on_the_way:
            self._write_rows(self._on_the_way.popleft().read())
        name = next((name for name, dtype in TYPES.items() if dtype is self._dtype), None)
        if self._n != self._shape[0] or name is None:
            return False
        self._write(memoryview(_TRAILER.pack(name.encode(), self._crc)))
        return self.error is None

    def _write_rows(self, features: Tensor) -> None:
        content = _bytes_of(features.contiguous())
        self._crc = zlib.crc32(content, self._crc)
        self._n += len(features)
        self._write(content)

    def _write(self, content: memoryview) -> None:
        try:
            while content and self.error is None:
                content = content[self._out.write(content) :]
        except OSError as error:
            self.error = error


def stored_rows(file: BufferedReader, shape: tuple[int, int]) -> StoredRows | None:
    """Returns the rows in `file`; None if it does not hold rows of this `shape` as they were written."""
    try:
        n_bytes = os.fstat(file.fileno()).st_size - _TRAILER.size
        if n_bytes < 0:
            return None
        crc, left = 0, n_bytes
        while left and (part := file.read(min(left, _AT_ONCE))):
            crc, left = zlib.crc32(part, crc), left - len(part)
        trailer = file.read()
    except OSError:
        return None
    if left or len(trailer) != _TRAILER.size:
        return None
    name, written_crc = _TRAILER.unpack(trailer)
    dtype = TYPES.get(name.rstrip(b"\0").decode(errors="replace"))
    if crc != written_crc or dtype is None or n_bytes != shape[0] * shape[1] * dtype.itemsize:
        return None
    return StoredRows(file, shape, dtype)


def most_bytes_of(shape: tuple[int, int]) -> int:
    """Returns the bytes of a file with rows of this `shape`, of the largest type."""
    return shape[0] * shape[1] * torch.float32.itemsize + _TRAILER.size


def _bytes_of(tensor: Tensor) -> memoryview:
    """Returns the memory of a CPU's contiguous tensor, of any type: NumPy has none for bfloat16."""
    return tensor.view(torch.uint8).numpy().data.cast("B")
