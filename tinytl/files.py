"""Files that are whole or missing, and locks that end with the process. Imports nothing heavy."""

import fcntl
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from tinytl.errors import ConfigError


@contextmanager
def part_of(path: Path) -> Iterator[BinaryIO]:
    """Gives an empty file `NAME.part` beside `path` to write to, for this process alone.

    Another process that wants it waits. A file that is not renamed to `path` is removed at the end; the next
    process overwrites what a killed one left.
    """
    part = path.with_name(path.name + ".part")
    with _open_locked(part) as out:
        try:
            out.truncate(0)
            yield out
        finally:  # while the lock is held: no other process writes it
            with suppress(OSError):
                part.unlink(missing_ok=True)


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Gives a file to write to that becomes `path` at the end; if the block raises, the old file stays."""
    with part_of(path) as out:
        yield out
        out.flush()
        Path(out.name).replace(path)


def write_whole(path: Path, text: str) -> None:
    """Writes `text` to `path`, whole or not at all.

    Raises:
        ConfigError: if it cannot be written; the old file stays.
    """
    with naming_the_file(path), written_whole(path) as out:
        out.write(text.encode())


@contextmanager
def naming_the_file(path: Path) -> Iterator[None]:
    """Turns an OSError of the block into a ConfigError: `path` cannot be written, and why."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror or error})") from None


def check_checksums(archive: zipfile.ZipFile, place: object) -> None:
    """Raises ConfigError, beginning with `place`, if a member of a zip archive is not what was written."""
    try:
        damaged = archive.testzip()
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(f"{place} is damaged ({error})") from None
    if damaged is not None:
        raise ConfigError(f"{place} is damaged: {damaged} is not what was written")


def try_lock(file: IO[str] | IO[bytes] | int, *, shared: bool = False) -> bool:
    """Locks an open file or folder against other processes until it is closed; False if another has it."""
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock(file: IO[bytes]) -> None:
    """Waits until no other process has an open file locked, and locks it until it is closed."""
    fcntl.flock(file, fcntl.LOCK_EX)


def _open_locked(part: Path) -> BinaryIO:
    """Opens `part`, locked. A process that waited for it finds it renamed or removed, and opens a new one."""
    while True:
        out = part.open("ab")
        lock(out)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(out.fileno()), part.stat()):
                return out
        out.close()
