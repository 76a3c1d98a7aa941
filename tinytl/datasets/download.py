"""Files fetched from where their authors publish them, whole and with the right checksum or not at all."""

import fcntl
import hashlib
import http.client
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tinytl.errors import ConfigError

CHUNK_BYTES = 2**20
TIMEOUT_S = 30.0
"""Longest silence of a server."""
LINES = 10
"""How often progress is told where there is no terminal."""


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
    if target.exists():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as out:
            fcntl.flock(out, fcntl.LOCK_EX)
            if not target.exists():
                out.truncate(0)
                report(f"fetching {download.url}")
                _receive(download, out.write, Progress(download.file))
                out.flush()
                part.rename(target)
            else:
                part.unlink(missing_ok=True)
    except ConfigError:
        part.unlink(missing_ok=True)
        raise
    except (OSError, http.client.HTTPException) as error:
        part.unlink(missing_ok=True)
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        reason = getattr(error, "reason", None) or error
        raise ConfigError(
            f"{download.url} cannot be fetched ({reason}): try again, or put {download.file} into {folder}"
        ) from None


def _receive(download: Download, write: Callable[[bytes], object], progress: "Progress") -> None:
    md5 = hashlib.md5(usedforsecurity=False)
    received = 0
    with urllib.request.urlopen(download.url, timeout=TIMEOUT_S) as answer:
        announced = answer.headers.get("Content-Length")
        total = int(announced) if announced else None
        while chunk := answer.read(CHUNK_BYTES):
            write(chunk)
            md5.update(chunk)
            received += len(chunk)
            progress.tell(received, total)
    progress.end()
    if total is not None and received < total:
        raise ConfigError(f"{download.url} broke off after {received} of {total} bytes: try again")
    if md5.hexdigest() != download.md5:
        raise ConfigError(
            f"{download.url} has checksum {md5.hexdigest()}, not {download.md5}: it was damaged on the way, "
            "or is another file now; nothing was kept"
        )


class Progress:
    """Percent of a file: one line that changes on a terminal, a line for every tenth elsewhere."""

    def __init__(self, name: str, stream: TextIO | None = None) -> None:
        self.name = name
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.told = -1

    def tell(self, received: int, total: int | None) -> None:
        """Shows how much of `total` bytes (None: unknown) is here."""
        share = received / total if total else 0.0
        step = int(share * (100 if self.live else LINES)) if total else received // (100 * CHUNK_BYTES)
        if step == self.told:
            return
        self.told = step
        mib = received / 2**20
        text = f"{share:4.0%}  {mib:.1f} of {total / 2**20:.1f} MiB" if total else f"{mib:.1f} MiB"
        before, after = ("\r", "") if self.live else ("", "\n")
        print(f"{before}{self.name}  {text}", end=after, file=self.stream, flush=True)

    def end(self) -> None:
        """Ends the line."""
        if self.live and self.told >= 0:
            print(file=self.stream, flush=True)
