"""Pictures decoded by worker processes while the network trains, in the order in which they are asked for."""

import os
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tinytl.data.pictures import decode_square
from tinytl.data.splits import ImageFiles
from tinytl.errors import ConfigError

WORKERS_MAX = 8
"""Worker processes where the configuration does not say; fewer where there are fewer cores."""

Index = npt.NDArray[np.int64]


def stream_squares(files: ImageFiles, parts: Sequence[Index], workers: int | None) -> Iterator[Tensor]:
    """Yields the files of each part as `(n, S, S, 3)` uint8, in order, whatever the number of workers.

    `workers` decode ahead, two parts each; 0 decodes in this process. They end with the iterator.

    Raises:
        ConfigError: naming a file that is gone or does not decode, when it is reached.
    """
    loader = DataLoader(
        _Squares(files),
        batch_size=None,
        sampler=parts,
        num_workers=default_workers() if workers is None else workers,
        # Its own: the loader would draw from torch's global generator, of which dropout is drawn.
        generator=torch.Generator(),
    )
    for squares in loader:
        if isinstance(squares, str):
            raise ConfigError(squares)
        yield squares


def default_workers() -> int:
    """Returns one for each core that this process may use, 8 at most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(WORKERS_MAX, cores)


class _Squares(Dataset[Tensor | str]):
    """Decodes the files at an index array; a mistake comes back as its line.

    An exception would arrive from a worker as another one, with the worker's traceback for a message.
    """

    def __init__(self, files: ImageFiles) -> None:
        self.files = files

    def __getitem__(self, index: Index) -> Tensor | str:
        try:
            squares = [decode_square(self.files.path(int(i)), self.files.side) for i in index]
        except ConfigError as error:
            return str(error)
        return torch.from_numpy(np.stack(squares))
