"""Files fetched from where their authors publish them, whole and with the right checksum or not at all."""

import fcntl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
    if target.exists():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as out:
            fcntl.flock(out, fcntl.LOCK_EX)
            if not target.exists():
                out.truncate(0)
                report(f"fetching {download.url}")
                found = receive(download.url, out.write, "md5", Progress(download.file))
                if found != download.md5:
                    raise ConfigError(
                        f"{download.url} has checksum {found}, not {download.md5}: it was damaged on the way "
                        "or is another file now; nothing was kept"
                    )
                out.flush()
                part.rename(target)
            else:
                part.unlink(missing_ok=True)
    except ConfigError:
        part.unlink(missing_ok=True)
        raise
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ConfigError(f"{target} cannot be written ({error.strerror or error})") from None
    except DownloadError as error:
        part.unlink(missing_ok=True)
        raise ConfigError(
            f"{download.url} cannot be fetched ({error}): try again, or put {download.file} into {folder}"
        ) from None
