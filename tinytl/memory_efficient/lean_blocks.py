"""A lean forward for blocks, of which several neighbours run as one function."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from tinytl.gradient_checkpoints.segment import checkpoint_segment
from tinytl.memory_efficient.block.function import Prepare, run_blocks
from tinytl.memory_efficient.block.reading import BlockReader
from tinytl.memory_efficient.block.spec import Block
from tinytl.memory_efficient.block.stock import keeps_forward
from tinytl.memory_efficient.block.working import extent, samples_in_slice
from tinytl.memory_efficient.lean_modules import Lean, mistyped
from tinytl.memory_efficient.ops.walk import WALK
from tinytl.networks.backbones.inverted_residual import full_name

MOST_EXTRA_SLICES = 4
"""A block joins a run if that cuts its batch, or that of the others, into at most so many times more slices:
each slice costs calls from Python."""
SLICES_WORTH_RECOMPUTING = 4
"""A run is recomputed if the batch has so many slices: in backward, all that one slice of all of its blocks
keeps is in memory, in place of the whole batch's maps between blocks."""


class LeanBlock(Lean):
    """A block that runs as one function; see `block.function.run_blocks`."""

    lean_reader: BlockReader
    lean_input: Prepare | None = None
    """Makes the input of this block from bytes, see `prepares_input`."""

    def forward(self, x: Tensor) -> Tensor:
        """Runs as one function unless small, or with a child hooked."""
        prepare = self.prepares(x)
        block = self.ready(x, x.shape[1:], prepare)
        if block is not None:
            if block.spec.uses_batch_statistics:
                self.lean_reader.count_batch()
            how = self.lean_execution
            if WALK.recomputes and how.recompute == "block":
                how = replace(how, recompute="none")
            return run_blocks(x, [block], how, prepare)
        return self.stock_forward(x if prepare is None else prepare(x))

    def prepares(self, x: Tensor) -> Prepare | None:
        """Returns what makes this block's input from `x`, None if `x` is the input."""
        return self.lean_input if x.dtype is torch.uint8 else None

    def ready(self, x: Tensor, sample: tuple[int, ...], prepare: Prepare | None) -> Block | None:
        """Returns the block, about to run on as many samples of this shape as `x` has.

        Their type is that of `x`, or what `prepare` makes of it. None if it must run as its own class does.
        """
        reader: BlockReader | None = vars(self).get("lean_reader")
        if reader is None or len(sample) != 3 or not x.numel():  # a slice of a sequence has no reader
            return None
        limit = self.lean_execution.stock_below_kib * 2**10 / (x.shape[0] * itemsize_of(x))
        known = reader.extents.get(sample)
        if known is not None and known.largest < limit:
            return None
        block = reader.read(self)
        if block is None or (prepare is None and mistyped(x, block.tensors[0][0].dtype)):
            return None
        if known is None:
            known = reader.extents[sample] = extent(block, sample[1:])
            if known.largest < limit:
                return None
        return block

    def is_seen(self) -> bool:
        """Whether something looks at this module's own input and output, so that it must be called."""
        inside = vars(self)
        return bool(
            isinstance(self, checkpoint_segment)
            or "forward" in inside
            or "lean_reader" not in inside
            or inside["_forward_hooks"]
            or inside["_forward_pre_hooks"]
            or inside["_backward_hooks"]
            or inside["_backward_pre_hooks"]
        )


def run_first_blocks(x: Tensor, modules: Sequence[nn.Module | None]) -> tuple[Tensor, int]:
    """Runs the blocks at the start of `modules` as one function, if there are several whose batch is cut into
    slices: a slice walks through all of them, so that no map between two is the whole batch's.

    Returns the last one's output, and their number; `x` and 0 if they are no run.
    """
    run = _run(x, modules)
    if len(run) < 2:
        return x, 0
    first = modules[0]
    assert isinstance(first, LeanBlock)
    return run_blocks(x, run, first.lean_execution, first.prepares(x)), len(run)


@contextmanager
def prepares_input(net: nn.Module, prepare: Prepare) -> Iterator[Prepare]:
    """Lets the first block of `net` make its own input, a slice at a time, if it can; yields what to do with
    images before `net` gets them: nothing, or `prepare`.

    So the whole batch in floats never exists: four times the bytes of its images.
    """
    first = _first_block(net)
    if first is None:
        yield prepare
        return
    vars(first)["lean_input"] = prepare  # no child, even if it is a module
    try:
        yield _as_it_is
    finally:
        del vars(first)["lean_input"]


def _first_block(net: nn.Module) -> LeanBlock | None:
    """Returns the block that alone gets the input of `net`, if nothing looks at that."""
    if full_name(type(net)) not in _BEGIN_WITH_FEATURES or "forward" in vars(net):
        return None
    features = cast(nn.Module, net.features)
    first = next(iter(features.children()))
    plain = keeps_forward(features, nn.Sequential) and isinstance(first, LeanBlock) and not first.is_seen()
    hooked = any(module._forward_pre_hooks or module._forward_hooks for module in (net, features))
    return cast(LeanBlock, first) if plain and not hooked else None


_BEGIN_WITH_FEATURES = (
    "tinytl.networks.backbones.inverted_residual.InvertedResidualNet",
    "tinytl.networks.backbones.sequence.SequenceNet",
    "torchvision.models.mobilenetv2.MobileNetV2",
)
"""Classes that give their input to `features`, and to nothing else."""


def _as_it_is(images: Tensor) -> Tensor:
    return images


def itemsize_of(x: Tensor) -> int:
    """Returns the bytes of an element of what a network computes from `x`: bytes become floats."""
    return 4 if x.dtype is torch.uint8 else x.element_size()


def _run(x: Tensor, children: Sequence[nn.Module | None]) -> list[Block]:
    """Returns the blocks at the start of `children` that are worth running as one function, if any."""
    run: list[Block] = []
    if x.dim() != 4:
        return run
    n, sample = x.shape[0], tuple(x.shape[1:])
    fewest, most = n, 0
    prepare: Prepare | None = None
    for child in children:
        if not isinstance(child, LeanBlock) or child.is_seen():
            break
        if not run:
            how, prepare = child.lean_execution, child.prepares(x)
        elif child.lean_execution != how:
            break
        known = child.lean_reader.extents.get(sample)
        if known is not None and samples_in_slice(known.largest, itemsize_of(x), how, x) >= n:
            break
        block = child.ready(x, sample, prepare)
        if block is None or block.spec.uses_batch_statistics:
            break
        known = child.lean_reader.extents[sample]
        samples = samples_in_slice(known.largest, itemsize_of(x), how, x)
        if samples >= n or max(most, samples) > MOST_EXTRA_SLICES * min(fewest, samples):
            break
        fewest, most = min(fewest, samples), max(most, samples)
        run.append(block)
        sample = known.output
    if run and how.recompute == "block" and n < SLICES_WORTH_RECOMPUTING * fewest:
        return []
    return run
