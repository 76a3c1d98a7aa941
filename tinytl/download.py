"""Files from the network: whole and verified, or not there at all. Imports nothing heavy."""

import hashlib
import http.client
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from tinytl.errors import ConfigError
from tinytl.files import written_whole

TIMEOUT_S = 30.0
"""Seconds that a server may send nothing."""
CHUNK_BYTES = 2**20


class DownloadError(Exception):
    """Why a file could not be downloaded, in words for the user."""


def cached_path(url: str, folder: Path) -> Path:
    """Returns the path of `url` in `folder`, under a name that no other URL has."""
    last = re.sub(r"[^\w.-]", "_", urllib.parse.unquote(_file_name(url)))[-80:]
    return folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}_{last}"


def checksum_in_name(url: str) -> str | None:
    """Returns the first digits of the SHA-256 that a file name such as `net-5c106cde.pth` promises.

    Source: torch.hub's convention, `name-<sha256>.ext` with eight digits or more.
    """
    found = re.search(r"-([0-9a-f]{8,64})\.", _file_name(url))
    return found.group(1) if found else None


def verify(path: Path, checksum: str, remedy: str = "") -> None:
    """Reads a file once, to verify that its SHA-256 begins with `checksum`. Nothing is deleted.

    Raises:
        ConfigError: naming the file, if it does not (ending with `remedy`) or cannot be read.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror or error})") from None
    if not digest.startswith(checksum):
        raise ConfigError(
            f"{path} is damaged: its SHA-256 begins with {digest[: len(checksum)]}, its name promises "
            f"{checksum}{remedy}"
        )


def download(url: str, path: Path, checksum: str | None = None) -> None:
    """Downloads `url` to `path`, with a line of progress on standard error if that is a terminal.

    The file appears under `path` once it is whole and its checksum is right. Until then it has another name
    beside it, so a killed download is never mistaken for it.

    Raises:
        ConfigError: one line that says why it could not be downloaded; `path` is unchanged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as file:
            digest = receive(url, file.write, "sha256", Progress(path.name, lines=0))
            if checksum is not None and not digest.startswith(checksum):
                raise DownloadError(
                    f"its SHA-256 begins with {digest[: len(checksum)]}, its name promises {checksum}"
                )
    except (OSError, DownloadError) as error:
        raise ConfigError(f"{url} could not be downloaded ({error})") from None


def receive(url: str, write: Callable[[bytes], object], algorithm: str, progress: "Progress") -> str:
    """Passes the content of `url` to `write`, and returns its checksum by `algorithm`.

    Raises:
        DownloadError: if the server does not answer or closes early; in words for the user.
        OSError: of `write`.
    """
    digest, received = hashlib.new(algorithm, usedforsecurity=False), 0
    with _answer(url) as answer:
        announced = answer.headers.get("Content-Length")
        total = int(announced) if announced else None
        while chunk := _read(answer):
            write(chunk)
            digest.update(chunk)
            received += len(chunk)
            progress.tell(received, total)
    progress.end()
    # http.client treats a connection that closed early as the end of the file.
    if total is not None and received < total:
        raise DownloadError(f"the connection ended after {received} of {total} bytes")
    return digest.hexdigest()


class Progress:
    """Percent of a file on standard error: one changing line on a terminal, `lines` lines elsewhere."""

    def __init__(self, name: str, lines: int = 10, stream: TextIO | None = None) -> None:
        self.name = name
        self.lines = lines
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.told = -1

    def tell(self, received: int, total: int | None) -> None:
        """Shows how much of `total` bytes (None: unknown) has arrived."""
        if not self.live and self.lines == 0:
            return
        share = received / total if total else 0.0
        step = int(share * (100 if self.live else self.lines)) if total else received // (100 * CHUNK_BYTES)
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


def _answer(url: str) -> http.client.HTTPResponse:
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(url, timeout=TIMEOUT_S)
        return answer
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
            raise DownloadError(str(error)) from None
        raise DownloadError(str(getattr(error, "reason", None) or error)) from None


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read1(CHUNK_BYTES)  # what has arrived, not a whole chunk
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(str(error)) from None


def _file_name(url: str) -> str:
    return urllib.parse.urlsplit(url).path.rpartition("/")[2]
