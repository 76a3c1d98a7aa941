"""Files downloaded from their authors, whole and with the right checksum or not at all."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tinytl.download import DownloadError, Progress, receive
from tinytl.errors import ConfigError
from tinytl.files import part_of


@dataclass(frozen=True, kw_only=True)
class Download:
    """A file as its authors publish it."""

    file: str
    url: str
    md5: str


def fetch(download: Download, folder: Path, report: Callable[[str], None]) -> None:
    """Downloads a file into `folder`, which is created if missing; does nothing if the file is there.

    It is called `NAME.part` until it is whole and its checksum right. A `.part` that a killed process left is
    started over. If two processes want the file, the second waits for the first.

    Raises:
        ConfigError: for a connection that fails or breaks, a full disk, or a wrong checksum.
    """
    target = folder / download.file
    try:
        if target.exists():
            return
        folder.mkdir(parents=True, exist_ok=True)
        with part_of(target) as out:
            if target.exists():  # another process was first
                return
            report(f"fetching {download.url}")
            _receive(download, out)
            Path(out.name).rename(target)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written ({error.strerror or error})") from None
    except DownloadError as error:
        raise ConfigError(
            f"{download.url} cannot be fetched ({error}): try again, or put {download.file} into {folder}"
        ) from None


def _receive(download: Download, out: BinaryIO) -> None:
    found = receive(download.url, out, "md5", Progress(download.file))
    if found != download.md5:
        raise ConfigError(
            f"{download.url} has checksum {found}, not {download.md5}: it was damaged on the way or is "
            "another file now; nothing was kept"
        )
