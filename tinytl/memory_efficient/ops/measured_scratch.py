"""What the CPU kernel of a convolution or of a product allocates inside, measured by running it on zeros.

oneDNN has other kernels on other processors, for each type, map size and memory format: no formula holds on
the next machine. What grows with the batch is linear in it, so two small batches tell of any other for which
torch chooses the same kernel, once the maps' share is the peak. It is measured on as many threads as torch
has: with several, torch hands more to oneDNN, and partial sums of the weight's gradient exist once per
thread. A product of matrices is run with its own sizes, but for rows beyond the number from which its blocks
stay as they are.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.profiler import profile
from torch.utils._mode_utils import no_dispatch

FEWER, MORE = 2, 3
"""Samples of the batches that are run."""
OF_16_BITS = 8, 9
"""As above, in 16 bits: there kernels make floats of weights, which is the peak of small batches; that of
larger ones is copies of maps."""
MANY = 16
"""From so many samples on, ATen's `use_mkldnn` chooses oneDNN for kernels of 1 x 1 on one thread, too."""
MOST_ROWS = 1 << 15
"""Of a product that is run whole: that of more rows follows from two of fewer, as well as blocks allow."""


class _Form(NamedTuple):
    """A tensor without its samples, if it has some. The strides of a map of one pixel choose the kernel."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    is_batch: bool

    def zeros(self, n_samples: int) -> Tensor:
        shape = (n_samples, *self.shape[1:]) if self.is_batch else self.shape
        reach = sum((length - 1) * stride for length, stride in zip(shape, self.strides, strict=True))
        return torch.zeros(max(0, reach) + 1, dtype=self.dtype).as_strided(shape, self.strides)

    def with_length(self, axis: int, length: int) -> "_Form":
        """Returns a matrix with one axis shorter, as dense as it was."""
        shape, strides, other = list(self.shape), list(self.strides), 1 - axis
        if strides[other] == shape[axis] * strides[axis]:
            strides[other] = length * strides[axis]
        shape[axis] = length
        return self._replace(shape=tuple(shape), strides=tuple(strides))


def measured_scratch_bytes(func: Any, args: tuple[Any, ...]) -> int:
    """Returns the bytes that `func(*args)` needs beside its outputs: a convolution, or its backward, on fake
    tensors.
    """
    n_batches = 2 if func is torch.ops.aten.convolution_backward.default else 1
    described = tuple(_describe(arg, index < n_batches) for index, arg in enumerate(args))
    n_samples, threads = args[0].shape[0], torch.get_num_threads()
    weight = args[n_batches]
    many = threads == 1 and n_samples >= MANY and tuple(weight.shape[2:]) == (1, 1)
    few = (FEWER, MORE) if weight.dtype.itemsize >= 4 else OF_16_BITS
    first, second = (MANY, MANY + 1) if many else few
    if n_samples <= second:
        return _measured(func, described, n_samples, threads)
    fewer, more = (_measured(func, described, n, threads) for n in (first, second))
    return max(0, fewer + (more - fewer) * (n_samples - first) // (second - first))


def product_scratch_bytes(func: Any, args: tuple[Any, ...]) -> int:
    """Returns the bytes that a product of matrices, `aten.mm` or `aten.addmm`, needs beside its output."""
    described = tuple(_describe(arg, False) for arg in args)
    *_, left, right = (index for index, arg in enumerate(args) if isinstance(arg, Tensor))
    m, k = args[left].shape
    # The rows of a batch are those of the left factor, or in a weight's gradient those that are summed.
    places = [(left, 0)] if m >= k else [(left, 1), (right, 0)]
    if func is torch.ops.aten.addmm.default and m >= k and args[0].dim() == 2 and len(args[0]) == m:
        places.append((0, 0))
    rows, threads = max(m, k), torch.get_num_threads()

    def of(n_rows: int) -> int:
        changed = list(described)
        for index, axis in places:
            changed[index] = changed[index].with_length(axis, n_rows)
        return _measured(func, tuple(changed), 0, threads)

    if rows <= MOST_ROWS:
        return of(rows)
    more = rows
    while more > MOST_ROWS:
        more = -(-more // 2)  # blocks divide what they divided
    fewer = -(-more // 2)
    return max(0, of(more) + (of(more) - of(fewer)) * (rows - more) // (more - fewer))


def _describe(arg: Any, is_batch: bool) -> Any:
    if not isinstance(arg, Tensor):
        return tuple(arg) if isinstance(arg, list) else arg
    shape = (0, *arg.shape[1:]) if is_batch else tuple(arg.shape)
    return _Form(shape, arg.stride(), arg.dtype, is_batch)


@cache
def _measured(func: Any, described: tuple[Any, ...], n_samples: int, threads: int) -> int:
    assert threads == torch.get_num_threads()  # they are there for the cache
    with no_dispatch(), torch.no_grad():
        args = [arg.zeros(n_samples) if isinstance(arg, _Form) else arg for arg in described]
        func(*args)  # the first run of a kernel may allocate what the others find
        with memory_profile() as events:
            made = func(*args)
        # A kernel may return gradients that nobody asked for.
        wanted = zip(made, args[-1], strict=True) if isinstance(made, tuple) else [(made, True)]
        outputs = [out for out, is_wanted in wanted if is_wanted]
    return max(0, peak_of_events(events) - sum(out.untyped_storage().nbytes() for out in outputs))


def memory_profile() -> profile:
    """Returns a profile, to be entered, of which `peak_of_events` reads the events.

    That of `torch.profiler` would import a compiler, of 170 MiB, to profile its kernels.
    """
    return profile(profile_memory=True)


class AllocatedPeak:
    """The highest sum of what was allocated since a profile began and is not yet freed, in bytes.

    Profiles may follow one another, with nothing allocated between them: the events of one need 30 MiB for a
    step of MobileNetV2, and are gone once they are added.
    """

    def __init__(self) -> None:
        self.n_bytes = self.now_bytes = 0
        self._alive: dict[int, int] = {}

    def add(self, events: profile) -> None:
        """Adds the events of a profile that has ended.

        A block that an earlier profile has seen, and that was freed unseen, is still known to the profiler by
        its address: what frees another block of that address is left out here, as all that was there before
        is.
        """
        for _, n_bytes, address in sorted(_allocations(events)):
            if n_bytes > 0:
                self._alive[address] = n_bytes
                self.now_bytes += n_bytes
                self.n_bytes = max(self.n_bytes, self.now_bytes)
            else:
                self.now_bytes -= self._alive.pop(address, 0)


def peak_of_events(events: profile) -> int:
    """Returns the peak of one profile, in bytes."""
    peak = AllocatedPeak()
    peak.add(events)
    return peak.n_bytes


def _allocations(events: profile) -> Iterator[tuple[int, int, int]]:
    """Yields the time, the bytes (less than 0: freed) and the address of what the allocator did."""
    assert events.kineto_results is not None
    nodes: list[Any] = list(events.kineto_results.experimental_event_tree())
    while nodes:
        node = nodes.pop()
        nodes += node.children
        if node.tag.name == "Allocation":
            yield node.start_time_ns, node.extra_fields.alloc_size, node.extra_fields.ptr
