"""Files from the network: whole and verified, or not there at all. Imports nothing heavy."""

import contextlib
import hashlib
import http.client
import re
import sys
import urllib.parse
import urllib.request
import uuid
from pathlib import Path
from typing import IO

from tinytl.errors import ConfigError

TIMEOUT_S = 30.0
"""How long a server may say nothing."""
_CHUNK_BYTES = 1 << 17


def cached_path(url: str, folder: Path) -> Path:
    """Returns where `url` is kept in `folder`: under a name that no other URL has."""
    last = re.sub(r"[^\w.-]", "_", urllib.parse.unquote(_file_name(url)))[-80:]
    return folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}_{last}"


def checksum_in_name(url: str) -> str | None:
    """Returns the first digits of the SHA-256 that a file name such as `net-5c106cde.pth` promises.

    Source: torch.hub's convention, `name-<sha256>.ext` with eight digits or more.
    """
    found = re.search(r"-([0-9a-f]{8,64})\.", _file_name(url))
    return found.group(1) if found else None


def verify(path: Path, checksum: str, remedy: str = "") -> None:
    """Reads a file once, to see that its SHA-256 begins with `checksum`. Nothing is deleted.

    Raises:
        ConfigError: naming the file, where it does not (ending with `remedy`), or cannot be read.
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
    """Downloads `url` to `path`, with a line of progress on standard error where that is a terminal.

    A file appears under `path` once it is whole and its checksum is right; until then it has another name
    beside it, and a download that was killed is never mistaken for it.

    Raises:
        ConfigError: one line that says why it could not be had; `path` is as it was.
    """
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, partial.open("wb") as file:
            length = response.headers.get("Content-Length")
            digest = _copy(response, file, path.name, None if length is None else int(length))
        if checksum is not None and not digest.startswith(checksum):
            raise ValueError(
                f"its SHA-256 begins with {digest[: len(checksum)]}, its name promises {checksum}"
            )
        partial.replace(path)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ConfigError(f"{url} could not be downloaded ({error})") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _copy(response: IO[bytes], file: IO[bytes], name: str, length: int | None) -> str:
    """Copies what the server sends and returns its SHA-256."""
    sha256, done = hashlib.sha256(), 0
    shown = sys.stderr.isatty()
    while chunk := response.read(_CHUNK_BYTES):
        file.write(chunk)
        sha256.update(chunk)
        done += len(chunk)
        if shown:
            of = "" if length is None else f" of {length / 1e6:.1f}"
            print(f"\rdownloading {name}: {done / 1e6:.1f}{of} MB", end="", file=sys.stderr, flush=True)
    if shown:
        print(file=sys.stderr)
    # http.client takes a connection that closed early for the end of the file.
    if length is not None and done != length:
        raise ValueError(f"the connection ended after {done} of {length} bytes")
    return sha256.hexdigest()


def _file_name(url: str) -> str:
    return urllib.parse.urlsplit(url).path.rpartition("/")[2]
