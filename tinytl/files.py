"""Files that are whole or missing, locks that end with the process, full disks. Imports nothing heavy."""

import errno
import fcntl
import glob
import os
import shutil
import time
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from tinytl.errors import ConfigError, causes

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_TEXTS = ("No space left on device", "database or disk is full")
"""How PostgreSQL and SQLite say it."""
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""What file systems say that have no locks, such as some network ones."""


def cache_folder() -> Path:
    """Returns where this project keeps what any of its programs can compute again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinytl"


def disk_is_full(error: BaseException) -> bool:
    """Whether an error, or one that led to it, says that a disk or a user's share of it is full."""
    return any(
        getattr(inner, "errno", None) in _FULL or any(text in str(inner) for text in _FULL_TEXTS)
        for inner in causes(error)
    )


def full_disk_line(error: BaseException) -> str | None:
    """Returns what a command says that ends with `error` of a full disk; None for any other error."""
    if not disk_is_full(error):
        return None
    place = getattr(error, "filename", None)
    return f"no space is left on a disk{f' ({place})' if place else ''}: make room, then do this again"


_UNFINISHED = ".tmp"
_ABANDONED_S = 600.0
"""Seconds after which an unfinished file or folder counts as left over."""


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


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes `content` to `path`, whole or not at all.

    Raises:
        ConfigError: if it cannot be written; the old file stays.
    """
    with naming_the_file(path), written_whole(path) as out:
        out.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def naming_the_file(path: Path) -> Iterator[None]:
    """Turns an OSError of the block into a ConfigError: `path` cannot be written, and why."""
    try:
        yield
    except OSError as error:
        remedy = ": make room" if disk_is_full(error) else ""
        raise ConfigError(f"{path} cannot be written ({error.strerror or error}){remedy}") from None


def new_name_beside(path: Path) -> Path:
    """Returns an unused hidden name beside `path`, to be renamed to it once whole.

    Removes what killed processes left under such names.
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{_UNFINISHED}*"):
        with suppress(OSError):  # another process removes it, too
            if time.time() - left.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
    # Not the process's number: in a container it is the same in every start.
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{_UNFINISHED}")


def check_checksums(archive: zipfile.ZipFile, place: object) -> None:
    """Raises ConfigError, beginning with `place`, if a member of a zip archive is not what was written."""
    try:
        damaged = archive.testzip()
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(f"{place} is damaged ({error})") from None
    if damaged is not None:
        raise ConfigError(f"{place} is damaged: {damaged} is not what was written")


def try_lock(file: IO[str] | IO[bytes] | int, *, shared: bool = False) -> bool:
    """Locks an open file or folder against other processes until it is closed; False if another has it.

    Raises:
        ConfigError: if the file system has no locks.
    """
    try:
        _flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock(file: IO[bytes]) -> None:
    """Waits until no other process has an open file locked, and locks it until it is closed.

    Raises:
        ConfigError: if the file system has no locks.
    """
    _flock(file, fcntl.LOCK_EX)


def _flock(file: IO[str] | IO[bytes] | int, how: int) -> None:
    try:
        fcntl.flock(file, how)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        place = Path(f"/proc/self/fd/{file if isinstance(file, int) else file.fileno()}").resolve()
        raise ConfigError(
            f"{place} cannot be locked ({error.strerror}), so two processes could write it: use a folder on "
            "another file system"
        ) from None


def _open_locked(part: Path) -> BinaryIO:
    """Opens `part`, locked. A process that waited for it finds it renamed or removed, and opens a new one."""
    while True:
        out = part.open("ab")
        lock(out)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(out.fileno()), part.stat()):
                return out
        out.close()
