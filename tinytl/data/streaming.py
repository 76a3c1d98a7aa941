"""Pictures decoded by worker processes while the network trains, in the requested order."""

import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tinytl.data.pictures import decode_square
from tinytl.data.splits import ImageFiles
from tinytl.errors import ConfigError

WORKERS_MAX = 8
"""Worker processes if the configuration does not set them; fewer on fewer cores."""

Index = npt.NDArray[np.int64]
Change = Callable[[npt.NDArray[np.uint8], int], npt.NDArray[np.uint8]]
"""Makes other pictures `(n, S, S, 3)` of the pictures of a part, from them and its number."""


def stream_squares(
    files: ImageFiles, parts: Sequence[Index], workers: int | None, change: Change | None = None
) -> Iterator[Tensor]:
    """Yields the files of each part as `(n, S, S, 3)` uint8, in order for any number of workers.

    `workers` processes decode ahead, two parts each, and end with the iterator; 0: this process decodes. They
    also make the `change` of decoded pictures, from them and the number of their part.

    Raises:
        ConfigError: naming a file that is gone or does not decode, when it is reached.
    """
    loader = DataLoader(
        _Squares(files, parts, change),
        batch_size=None,
        sampler=range(len(parts)),
        num_workers=default_workers() if workers is None else workers,
        # A generator of its own: the loader would draw from torch's global one, from which dropout draws.
        generator=torch.Generator(),
    )
    for squares in loader:
        if isinstance(squares, str):
            raise ConfigError(squares)
        yield squares


def default_workers() -> int:
    """Returns one worker per core that this process may use, 8 at most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(WORKERS_MAX, cores)


class _Squares(Dataset[Tensor | str]):
    """Decodes the files of a part, and changes them; an error is returned as its line.

    An exception would arrive from a worker as another class, with the worker's traceback as its message.
    """

    def __init__(self, files: ImageFiles, parts: Sequence[Index], change: Change | None) -> None:
        self.files, self.parts, self.change = files, parts, change

    def __getitem__(self, number: int) -> Tensor | str:
        try:
            squares = np.stack(
                [decode_square(self.files.path(int(i)), self.files.side) for i in self.parts[number]]
            )
        except ConfigError as error:
            return str(error)
        return torch.from_numpy(squares if self.change is None else self.change(squares, number))
