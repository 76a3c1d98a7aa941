"""Files from the network: whole and verified, or not there at all. Imports nothing heavy."""

import contextlib
import hashlib
import re
import sys
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from tinytl.errors import ConfigError
from tinytl.files import naming_the_file, part_of
from tinytl.passwords import whole, without_password


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


def verify(path: Path, checksum: str, remedy: str = "", mistake: str = "") -> None:
    """Reads a file once, to verify that its checksum begins with `checksum` (see `download`).

    Raises:
        ConfigError: if it does not (from `mistake`, else naming the file, to `remedy`) or cannot be read.
    """
    import pooch

    algorithm, _, promised = checksum.rpartition(":")
    try:
        found = pooch.file_hash(path, algorithm or "sha256")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror or error})") from None
    if not found.startswith(promised):  # pooch compares whole checksums only, names have the first digits
        what = f"its {(algorithm or 'SHA-256').upper()} begins with {found[: len(promised)]}, not {promised}"
        raise ConfigError(f"{mistake or f'{path} is damaged'}: {what}{remedy}")


def download(
    url: str, path: Path, checksum: str | None = None, report: Callable[[str], None] | None = None
) -> None:
    """Downloads an http or https URL to `path`, or waits if another process does so.

    The file is called `NAME.part` until it is whole and its checksum right, so a killed download is never
    taken for it. A checksum is the first digits of a SHA-256, or `md5:` and those of an MD5. Standard error
    shows progress: a changing line on a terminal, elsewhere ten lines if `report` wants to hear of the start.

    Raises:
        ConfigError: one line that says why `url` could not be downloaded or `path` not be written.
    """
    with naming_the_file(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with part_of(path) as out:
            if path.exists():  # another process was first
                return
            if report:
                report(f"fetching {url}")
            _receive(url, out, _Progress(path.name, plain_lines=10 if report else 0))
            if checksum:
                verify(Path(out.name), checksum, mistake=f"{url} could not be downloaded")
            Path(out.name).rename(path)


class _Progress:
    """What pooch wants of a progress bar: `total`, which it sets, and three methods."""

    def __init__(self, name: str, plain_lines: int) -> None:
        self.name, self.total, self.received, self.shown = name, 0, 0, -1
        self.live = sys.stderr.isatty()
        self.steps = 100 if self.live else plain_lines

    def update(self, n_bytes: int) -> None:
        # The last chunk counts as a whole one. A total of 0 is unknown.
        self.received = min(self.received + n_bytes, self.total or sys.maxsize)
        step = self.received * self.steps // (self.total or 2**30)
        if self.steps and step != self.shown:
            self.shown = step
            mib, of_mib = self.received / 2**20, self.total / 2**20
            text = f"{mib / of_mib:4.0%}  {mib:.1f} of {of_mib:.1f} MiB" if self.total else f"{mib:.1f} MiB"
            start, end = ("\r", "") if self.live else ("", "\n")
            print(f"{start}{self.name}  {text}", end=end, file=sys.stderr, flush=True)

    def reset(self) -> None:
        """Does nothing: pooch counts the whole file once more at the end."""

    def close(self) -> None:
        if self.live and self.shown >= 0:
            print(file=sys.stderr, flush=True)


def _receive(url: str, out: BinaryIO, progress: _Progress) -> None:
    import pooch
    from requests import RequestException

    with contextlib.ExitStack() as answers:  # pooch does not close them
        get = pooch.HTTPDownloader(
            progress,
            chunk_size=2**17,
            timeout=30,
            headers={"Accept-Encoding": "identity"},  # an archive is not compressed once more
            hooks={"response": lambda answer, **_: answers.enter_context(answer)},
        )
        try:
            get(whole(url), out, None)
        except (RequestException, ValueError) as error:  # ValueError: urllib3's, for some bad URLs
            progress.close()  # pooch does so only if all goes well
            raise ConfigError(
                f"{url} could not be downloaded ({without_password(_innermost(error))})"
            ) from None


def _innermost(error: BaseException) -> str:
    """Returns in one line the reason that requests' and urllib3's long messages end with."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    text = str(getattr(error, "strerror", None) or error).partition(" for url: ")[0]
    return " ".join(re.sub(r"^IncompleteRead\((.*)\)$", r"connection broken: \1", text).split())


def _file_name(url: str) -> str:
    return urllib.parse.urlsplit(url).path.rpartition("/")[2]
