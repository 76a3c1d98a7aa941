"""Files fetched from where their authors publish them, whole and with the right checksum or not at all."""

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tinytl.download import DownloadError, Progress, receive
from tinytl.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Download:
    """A file as its authors publish it."""

    file: str
    url: str
    md5: str


def fetch(download: Download, folder: Path, report: Callable[[str], None]) -> None:
    """Fetches a file into `folder`, made where it is missing; nothing is done where the file lies there.

    It grows as `NAME.part` and gets its name when it is whole and its checksum right. A `.part` that a killed
    process left is begun anew; where two processes want the file, the second waits for the first.

    Raises:
        ConfigError: for a connection that fails or breaks, a full disk, or another checksum.
    """
    target, part = folder / download.file, folder / f"{download.file}.part"
    try:
        if target.exists():
            return
        folder.mkdir(parents=True, exist_ok=True)
        with _open_locked(part) as out:
            try:
                if target.exists():  # another process was first
                    return
                out.truncate(0)
                report(f"fetching {download.url}")
                _receive(download, out)
                part.rename(target)
            finally:  # while the lock is held: nobody else writes it
                part.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written ({error.strerror or error})") from None
    except DownloadError as error:
        raise ConfigError(
            f"{download.url} cannot be fetched ({error}): try again, or put {download.file} into {folder}"
        ) from None


def _receive(download: Download, out: BinaryIO) -> None:
    found = receive(download.url, out.write, "md5", Progress(download.file))
    out.flush()
    if found != download.md5:
        raise ConfigError(
            f"{download.url} has checksum {found}, not {download.md5}: it was damaged on the way or is "
            "another file now; nothing was kept"
        )


def _open_locked(part: Path) -> BinaryIO:
    """Opens `part` for this process alone: who waited for it finds it renamed or removed, and opens anew."""
    while True:
        out = part.open("ab")
        fcntl.flock(out, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(out.fileno()), part.stat()):
                return out
        out.close()
