"""The picture files of a folder, and an account of what is left aside. Works without torch."""

import functools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from PIL import EpsImagePlugin, Image, ImageFile

from tinytl.errors import ConfigError

SYSTEM_NAMES = frozenset({"__macosx", "@eadir", "thumbs.db", "desktop.ini"})
"""Names, in lower case, that systems leave in folders; those that begin with a dot are hidden, too."""
HIDDEN = "hidden"
NEVER_READ = frozenset({"MPEG"})
"""Formats that Pillow knows by their first bytes alone."""


class LeftOut:
    """Counts what a scan leaves aside, by reason."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, reason: str, count: int = 1) -> None:
        """Counts `count` names more under `reason`, a few words that follow a number."""
        self._counts[reason] += count

    def take_in(self, other: "LeftOut") -> None:
        """Adds the counts of another scan."""
        self._counts.update(other._counts)

    @property
    def has_files(self) -> bool:
        """Whether something was left aside that is not hidden."""
        return any(reason != HIDDEN for reason in self._counts)

    def __str__(self) -> str:
        """Returns such as `4 hidden, 2 of ending .txt`, what is most first."""
        return ", ".join(f"{count:,} {reason}" for reason, count in self._counts.most_common())


@functools.cache
def picture_endings() -> frozenset[str]:
    """Returns the endings, in lower case with their dot, of all formats that the installed Pillow opens."""
    endings = Image.registered_extensions()  # loads every plugin, that of `Image.OPEN` included
    return frozenset(ending for ending, name in endings.items() if name in Image.OPEN and _is_read(name))


def _is_read(name: str) -> bool:
    factory = Image.OPEN[name][0]
    if isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile):
        return False  # it needs a program that Pillow does not bring
    return name not in NEVER_READ and (name != "EPS" or EpsImagePlugin.has_ghostscript())


def is_hidden(name: str) -> bool:
    """Whether a name is one that systems and editors make, not users."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def visible(folder: Path, left_out: LeftOut) -> tuple[list[str], list[str]]:
    """Returns the names of the folders and of the files in a folder, links followed, each in order.

    Raises:
        ConfigError: for a folder that cannot be read.
    """
    folders, files = [], []
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read ({error.strerror}): change its mode or owner") from None
    for name in names:
        path = folder / name
        if is_hidden(name):
            left_out.add(HIDDEN)
        elif path.is_dir():
            folders.append(name)
        elif path.is_file():
            files.append(name)
        else:
            left_out.add("that lead nowhere" if path.is_symlink() else "that are no files")
    return folders, files


def pictures_under(folder: Path, left_out: LeftOut) -> list[Path]:
    """Returns the picture files anywhere under `folder`, by their endings, in order; links are followed.

    Raises:
        ConfigError: for a folder that cannot be read.
    """
    return list(_pictures(folder, left_out, ()))


def _pictures(folder: Path, left_out: LeftOut, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    try:
        found = folder.stat()
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read ({error.strerror})") from None
    here = (found.st_dev, found.st_ino)
    if here in above:
        left_out.add("that lead back to a folder above")
        return
    folders, files = visible(folder, left_out)
    inside = set(folders)
    for name in sorted((*folders, *files)):
        if name in inside:
            yield from _pictures(folder / name, left_out, (*above, here))
        elif ending_of(name) in picture_endings():
            yield folder / name
        else:
            left_out.add(f"of ending {ending_of(name)}" if ending_of(name) else "without an ending")


def ending_of(name: str) -> str:
    """Returns the ending of a file's name, in lower case with its dot; empty if it has none."""
    return Path(name).suffix.lower()
