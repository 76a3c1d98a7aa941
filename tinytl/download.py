"""Files from the network: whole and verified, or not there at all. Imports nothing heavy."""

import hashlib
import http.client
import re
import sys
import urllib.parse
from pathlib import Path
from typing import BinaryIO, TextIO

from tinytl.errors import ConfigError
from tinytl.files import written_whole

TIMEOUT_S = 30.0
"""Seconds that a server may send nothing."""
CHUNK_BYTES = 2**16
MIB = 2**20


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
            digest = receive(url, file, "sha256", Progress(path.name, lines=0))
            if checksum is not None and not digest.startswith(checksum):
                raise DownloadError(
                    f"its SHA-256 begins with {digest[: len(checksum)]}, its name promises {checksum}"
                )
    except (OSError, DownloadError) as error:
        raise ConfigError(f"{url} could not be downloaded ({error})") from None


def receive(url: str, out: BinaryIO, algorithm: str, progress: "Progress") -> str:
    """Writes the content of `url` to the open file `out`, and returns its checksum by `algorithm`.

    Raises:
        DownloadError: if the server does not answer or closes early; in words for the user.
        OSError: if the file cannot be written.
    """
    import pooch
    import requests

    # Archives arrive as they are: a server may offer to compress them once more.
    as_it_is = {"Accept-Encoding": "identity"}
    get = pooch.HTTPDownloader(progress, CHUNK_BYTES, timeout=TIMEOUT_S, headers=as_it_is)
    try:
        get(url, out, None)
    except requests.RequestException as error:
        raise DownloadError(_in_words(error)) from None
    return str(pooch.file_hash(out.name, alg=algorithm))


class Progress:
    """Percent of a file on standard error: one changing line on a terminal, `lines` lines elsewhere.

    `total` and the methods are what pooch sets and calls.
    """

    def __init__(self, name: str, lines: int = 10, stream: TextIO | None = None) -> None:
        self.name = name
        self.lines = lines
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.total = 0
        """Bytes of the whole file. 0: unknown."""
        self.received = 0
        self.shown = -1

    def update(self, n_bytes: int) -> None:
        """Counts bytes that have arrived, and shows how much that is."""
        self.received += n_bytes
        if self.total:  # pooch counts whole chunks, the last one too
            self.received = min(self.received, self.total)
        if self.live or self.lines:
            self._show()

    def reset(self) -> None:
        """Leaves the count as it is: pooch sets it to the total at the end."""

    def close(self) -> None:
        """Ends the line."""
        if self.live and self.shown >= 0:
            print(file=self.stream, flush=True)

    def _show(self) -> None:
        share = self.received / self.total if self.total else 0.0
        step = int(share * (100 if self.live else self.lines)) if self.total else self.received // (100 * MIB)
        if step == self.shown:
            return
        self.shown = step
        mib = self.received / MIB
        text = f"{share:4.0%}  {mib:.1f} of {self.total / MIB:.1f} MiB" if self.total else f"{mib:.1f} MiB"
        before, after = ("\r", "") if self.live else ("", "\n")
        print(f"{before}{self.name}  {text}", end=after, file=self.stream, flush=True)


def _in_words(error: Exception) -> str:
    """Returns the reason that lies innermost in an error of requests."""
    answer = getattr(error, "response", None)
    if answer is not None:
        return f"HTTP {answer.status_code} {answer.reason}"
    inner: BaseException = error
    while inner.__context__ is not None:
        inner = inner.__context__
    if isinstance(inner, http.client.IncompleteRead):
        received = int(inner.partial)  # urllib3 gives the number of bytes
        return f"the connection ended after {received} of {received + (inner.expected or 0)} bytes"
    return getattr(inner, "strerror", None) or str(inner)


def _file_name(url: str) -> str:
    return urllib.parse.urlsplit(url).path.rpartition("/")[2]
