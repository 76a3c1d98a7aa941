"""Batches on their way to a GPU: one travels while the network trains on the one before it.

A batch's pictures as they are stored, its boxes and its labels lie in pinned memory, from which a GPU copies
by itself, on a stream of its own. Two such places take turns; one is filled again only after what it held was
copied. No thread is needed: a copy is only asked for here.

On the GPU, the memory of a batch belongs to the stream that trains, and its copy begins when that stream gets
there. So it may lie where the step before it had its own tensors, and no block has to be marked as used by
two streams (`record_stream`), which delays its reuse by as many steps as this process is ahead. Beside each
step lies one batch of stored pictures, never two.

Without a GPU, on fake tensors or under `gpu_emulated`, the same code runs without streams.
"""

import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinytl.data.crops import Crop
from tinytl.data.resizing import BOX_NUMBERS, boxes_of
from tinytl.errors import ConfigError

PLACES = 2
"""One is filled while the other one is copied."""

T = TypeVar("T")


class Wanted(NamedTuple):
    """What a batch is made of, beside its pictures."""

    crops: Sequence[Crop]
    labels: npt.NDArray[np.int64]


class SentBatch(NamedTuple):
    """A batch on its way: to be read only after `arrived`."""

    pictures: Tensor
    """`(N, S, S, 3)` uint8, as stored."""
    boxes: Tensor
    """`(N, 5)` float32, as `boxes_of` makes them."""
    labels: Tensor
    """`(N,)` int64."""
    copied: torch.cuda.Event | None

    def arrived(self) -> "SentBatch":
        """Returns the batch; the stream that trains waits for its copy, this process does not."""
        if self.copied is not None:
            torch.cuda.current_stream(self.pictures.device).wait_event(self.copied)
        return self


def sent_batches(
    pictures: Iterator[Tensor], wanted: Iterable[Wanted], *, most: int, side: int, device: torch.device
) -> Generator[SentBatch, None, None]:
    """Yields each batch as soon as its copy to `device` is asked for.

    Args:
        pictures: the pictures of all batches in order, `(n, S, S, 3)` uint8: some at a time, of one batch.
        wanted: the boxes and labels of each batch.
        most: pictures in the largest batch.
        side: S, in pixels.
        device: that of the network.
    """
    has_streams = device.type == "cuda" and torch.cuda.is_available()
    stream = torch.cuda.Stream(device) if has_streams else None
    places = [_Place(most, side, pinned=has_streams) for _ in range(PLACES)]
    try:
        for (crops, labels), place in zip(wanted, itertools.cycle(places), strict=False):
            place.fill(pictures, crops, labels)
            yield place.send(len(labels), device, stream)
    finally:
        if stream is not None:
            # A batch that nobody took is freed in the order of the stream that trains: after its copy.
            torch.cuda.current_stream(device).wait_stream(stream)


def one_ahead(items: Iterator[T]) -> Iterator[T]:
    """Yields the items, each after the next one was made; a ConfigError of making one comes in its turn."""
    waiting: list[T] = []  # not a name of its own: what was handed out must not be kept here
    error: ConfigError | None = None
    more = True
    while more:
        try:
            waiting.append(next(items))
        except StopIteration:
            more = False
        except ConfigError as caught:
            more, error = False, caught
        if len(waiting) > 1 or (waiting and not more):
            yield waiting.pop(0)
    if error is not None:
        raise error


class _Place:
    """Pinned memory for a batch, used again and again."""

    def __init__(self, most: int, side: int, pinned: bool) -> None:
        self.pictures = torch.empty((most, side, side, 3), dtype=torch.uint8, pin_memory=pinned)
        self.boxes = torch.empty((most, BOX_NUMBERS), dtype=torch.float32, pin_memory=pinned)
        self.labels = torch.empty(most, dtype=torch.int64, pin_memory=pinned)
        self.copied: torch.cuda.Event | None = None

    def fill(self, pictures: Iterator[Tensor], crops: Sequence[Crop], labels: npt.NDArray[np.int64]) -> None:
        """Writes a batch here, once the copy of the last one is made.

        A network that trains is not waited for: that copy was behind the step before the last one.
        """
        if self.copied is not None:
            self.copied.synchronize()
        done = 0
        while done < len(labels):
            few = next(pictures)
            self.pictures[done : done + len(few)].copy_(few)
            done += len(few)
        self.boxes[: len(crops)].copy_(boxes_of(crops))
        self.labels[: len(labels)].copy_(torch.from_numpy(labels))

    def send(self, n: int, device: torch.device, stream: torch.cuda.Stream | None) -> SentBatch:
        """Asks for a copy of the first `n` samples."""
        held = [tensor[:n] for tensor in (self.pictures, self.boxes, self.labels)]
        arriving = [torch.empty(part.shape, dtype=part.dtype, device=device) for part in held]
        if stream is not None:
            stream.wait_stream(torch.cuda.current_stream(device))  # whose steps may use that memory until now
        with torch.cuda.stream(stream):  # None: nothing changes
            for target, part in zip(arriving, held, strict=True):
                target.copy_(part, non_blocking=True)
            if stream is not None:
                self.copied = stream.record_event()
        pictures, boxes, labels = arriving
        return SentBatch(pictures, boxes, labels, self.copied)
