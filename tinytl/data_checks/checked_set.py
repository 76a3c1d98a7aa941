"""The pictures of all splits in one row, test first: of two copies the training one is then the later."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image

from tinytl.data.named_pictures import NamedPictures
from tinytl.data.pictures import BrokenPicture
from tinytl.data.splits import Split

ORDER = ("test", "val", "train")


class CheckedSet:
    """Pictures by row: their splits, labels, names, and pixels if asked for."""

    classes: tuple[str, ...]
    parts: Mapping[str, Split]
    """The splits that there are, in order."""
    labels: npt.NDArray[np.int64]
    """`(N,)`, numbers of classes."""
    splits: npt.NDArray[np.uint8]
    """`(N,)`, numbers of splits in `parts`."""

    def __init__(self, classes: tuple[str, ...], named: Mapping[str, NamedPictures]) -> None:
        """`classes`: of a data set. `named`: the pictures of each split that there is, see `named_parts`."""
        self.classes = classes
        self._named = [named[name] for name in ORDER if name in named]
        self.parts = {name: named[name].part for name in ORDER if name in named}
        sizes = [len(part) for part in self.parts.values()]
        self.labels = np.concatenate([part.labels for part in self.parts.values()])
        self.splits = np.repeat(np.arange(len(sizes), dtype=np.uint8), sizes)
        self._starts = np.cumsum([0, *sizes])

    def __len__(self) -> int:
        return len(self.labels)

    def split(self, row: int) -> str:
        """Returns the name of a picture's split."""
        return list(self.parts)[self.splits[row]]

    def label(self, row: int) -> str:
        """Returns the name of a picture's class."""
        return self.classes[self.labels[row]]

    def file(self, row: int) -> str:
        """Returns a picture's name: its path relative to the data folder."""
        number = self.splits[row]
        return self._named[number].file(int(row - self._starts[number]))

    def picture(self, row: int, at_least: int | None = None) -> Image.Image | BrokenPicture:
        """Decodes a picture, see `decode_whole`."""
        number = self.splits[row]
        return self._named[number].picture(int(row - self._starts[number]), at_least)

    def rows_of(self, name: str) -> slice:
        """Returns the rows of a split."""
        number = list(self.parts).index(name)
        return slice(int(self._starts[number]), int(self._starts[number + 1]))
