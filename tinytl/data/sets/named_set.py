"""A published data set: its classes, its files, and how they are found and read."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tinytl.data.sets.download import Download
from tinytl.data.sets.listing import Listing
from tinytl.data.splits import DataSplits, two_way
from tinytl.errors import ConfigError

Report: TypeAlias = Callable[[str], None]
"""Called with a line for the user."""


@dataclass(frozen=True, kw_only=True)
class NamedSet:
    """A published data set. `--data-dir` holds its archives as downloaded, or the folders in them."""

    name: str
    """Its name in `TrainConfig.dataset`."""
    title: str
    """Its authors' name for it."""
    n_classes: int
    contents: str
    """The content of the folder, in words."""
    downloads: tuple[Download, ...] = ()
    """Archives that `--download` downloads; none if the authors must be asked."""
    how_to_get: str
    """The end of the error for a missing set."""
    is_there: Callable[[Path], bool]
    """Whether a folder seems to hold the set, extracted or not; a quick check."""
    read: Callable[[Path, int, Report], Listing]
    """Lists the set in a folder for images stored at a number of pixels, extracting archives if needed."""
    crop_scale_min: float = 0.7
    """Smallest share of a picture that a training crop keeps: 0.7, as for a folder of the user's images,
    because smaller crops cost accuracy in the few epochs of a search. Papers use 0.08 to 0.35 over 50
    epochs."""
    flip: bool = True
    """Whether a mirrored picture keeps its class: it does in all sets of photographs here."""

    def check(self, folder: Path) -> None:
        """Raises ConfigError if `folder` does not hold the set."""
        if not self.is_there(folder):
            raise ConfigError(
                f"--data-dir {folder} holds no {self.title} ({self.contents}); {self.how_to_get}"
            )

    def load(self, folder: Path, side: int, report: Report) -> DataSplits:
        """Returns the set's splits; val is a part of train if there is none.

        Raises:
            ConfigError: for files that are missing, damaged, or not this set's.
        """
        self.check(folder)
        listing = self.read(folder, side, report)
        if len(listing.classes) != self.n_classes:
            raise ConfigError(
                f"--data-dir {folder} holds {len(listing.classes)} classes, {self.title} has "
                f"{self.n_classes}: give the folder as published, or add --dataset imagefolder"
            )
        train, val = listing.train, listing.val
        if val is None:
            train, val = two_way(train)
        for name, part in (("train", train), ("val", val), ("test", listing.test)):
            if part is None:
                continue
            if len(part) == 0:
                raise ConfigError(f"--data-dir {folder}: no image of {self.title} is left for {name}")
            if part.labels.min() < 0 or part.labels.max() >= self.n_classes:
                raise ConfigError(f"--data-dir {folder}: a label of {name} is no class of {self.title}")
        return DataSplits(
            self.name, listing.classes, train, val, listing.test, self.crop_scale_min, self.flip
        )


@contextmanager
def naming_what_is_broken(folder: Path, readers: Mapping[Path, Callable[[Path], Any]]) -> Iterator[None]:
    """Turns an error in reading a set into a ConfigError that names the file.

    A reader of several files does not say which one failed, and damaged pickles and MAT files raise any
    exception. So each of `readers` is then tried alone.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        for path, read in readers.items():
            try:
                read(path)
            except Exception as cause:
                raise ConfigError(f"{path} does not read ({_one_line(cause)}): get it again") from None
        raise ConfigError(f"{folder} is not as published ({_one_line(error)}): get it again") from None


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
