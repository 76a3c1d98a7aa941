"""Rows of features in files that several processes write and read: each file is whole, or it is not there.

A file is its rows, one after the other as they lie in memory, and a trailer with their type and checksum.
Nobody waits for anybody: two processes that write the same file write the same bytes, and the later one
replaces the other's. The store is a cache, so no fault of its disk ends a run.
"""

import functools
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tinytl.features.limit import FREE_BYTES, most_stored_bytes
from tinytl.features.rows import RowsBeingWritten, StoredRows, most_bytes_of, stored_rows
from tinytl.files import cache_folder, new_name_beside

LEFT_OVER_S = 24 * 3600.0
"""Seconds after which a file that is not whole was left by a process that was killed."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeatureStore:
    """A folder of files of features, at most `most_bytes` of them: what was used longest ago goes first."""

    folder: Path
    most_bytes: int

    @contextmanager
    def reading(self, name: str, shape: tuple[int, int]) -> Iterator[StoredRows | None]:
        """Gives the file `name`, rows of this `shape`; None if it is missing, damaged or of another shape.

        The file stays readable until the end of the block if the store removes it.
        """
        path = self.folder / name
        try:
            file = path.open("rb")
        except OSError:
            yield None
            return
        with file:
            rows = stored_rows(file, shape)
            if rows is not None:
                with suppress(OSError):
                    os.utime(path)
            yield rows

    @contextmanager
    def writing(self, name: str, shape: tuple[int, int]) -> Iterator[RowsBeingWritten | None]:
        """Gives what takes the rows of the file `name`; None if there is no room for it.

        There is a file only after all rows came. None is left if the block raises.
        """
        path, n_bytes = self.folder / name, most_bytes_of(shape)
        part: Path | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if n_bytes <= self.most_bytes and shutil.disk_usage(self.folder).free > n_bytes + FREE_BYTES:
                part = new_name_beside(path)
                out = part.open("wb", buffering=0)
        except OSError as error:
            part = None
            _tell(self.folder, str(error.strerror))
        if part is None:
            yield None
            return
        try:
            with out:
                rows = RowsBeingWritten(out, shape)
                yield rows
                whole = rows.finish()
            if whole:
                self._keep(part, path)
            elif rows.error is not None:
                _tell(self.folder, str(rows.error.strerror))
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def _keep(self, part: Path, path: Path) -> None:
        """Gives a whole file its name, and removes what there is no room for."""
        try:
            part.replace(path)
            self._make_room()
        except OSError as error:
            _tell(self.folder, str(error.strerror))

    def _make_room(self) -> None:
        whole: list[tuple[float, int, Path]] = []
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # another process removes it, too
                about = path.stat()
                if not path.name.startswith("."):
                    whole.append((about.st_mtime, about.st_size, path))
                elif time.time() - about.st_mtime > LEFT_OVER_S:
                    path.unlink()
        held = sum(size for _, size, _ in whole)
        for _, size, path in sorted(whole):
            if held <= self.most_bytes:
                break
            path.unlink(missing_ok=True)
            held -= size


def store_of_this_machine() -> FeatureStore | None:
    """Returns the store in this project's cache folder; None if it is switched off.

    Raises:
        ConfigError: for a bad value of TINYTL_FEATURES_MIB.
    """
    most_bytes = most_stored_bytes()
    return FeatureStore(cache_folder() / "features", most_bytes) if most_bytes else None


@functools.cache
def _tell(folder: Path, why: str) -> None:
    """Warns, once per process and reason: a run tries again in each epoch."""
    logger.warning("features cannot be stored in %s (%s): each run computes its own", folder, why)
