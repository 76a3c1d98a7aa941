"""Adam's moments as 8-bit codes: a float per block of 256 numbers, and each number's fourth root in 8 bits.

A block's scale is its largest magnitude. A number `x` of it is stored as `(|x| / scale) ** (1/4)`. Such codes
reach down to 4e-9 of the scale for the first moment and 2e-10 for the second; near the scale they lie 3 %
apart for the first and 1.6 % for the second. A linear code would store small second moments as zero, and Adam
divides by them. Here the least code of a second moment is above zero.

Codes are not rounded to the nearest: a second moment changes by a thousandth per step, so it would stay where
it is for ever. They are rounded up or down by a fixed pattern that moves on with the step (`dither`), so that
over some steps they add up to the number itself. The pattern depends on the step alone: nothing is drawn at
random, and a run repeats its numbers.

Source: Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization": blocks and their scales. Their
code is another one, for which each number needs a search in a table.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 256
"""Numbers that share a scale."""
_LEVELS = 127
"""Positive codes of a first moment; as many are negative."""
_LEVELS_SQ = 256
"""Codes of a second moment, stored from -128 on."""
_LEAST_SCALE = torch.finfo(torch.float32).tiny
_PARTS = 4096
"""Values of the dither: their multiples of numbers and steps below it are exact in 32-bit floats."""
_BETWEEN_NUMBERS, _BETWEEN_STEPS = 3091, 2531
"""How far the pattern moves on, in `_PARTS`: odd, so that it meets each of them. The second one is the golden
section, whose multiples lie evenly, however few they are."""


class Piece(NamedTuple):
    """A run of numbers in a tensor's storage order, cut into rows: blocks, or what is left after them."""

    numbers: slice
    blocks: slice
    width: int
    """Numbers of a row."""

    def rows(self, dense: Tensor) -> Tensor:
        """Returns the piece's part of a dense tensor, in its storage order, `(rows, width)`, a view."""
        n_rows = (self.numbers.stop - self.numbers.start) // self.width
        return dense.as_strided(
            (n_rows, self.width), (self.width, 1), dense.storage_offset() + self.numbers.start
        )

    def scales(self, scales: Tensor) -> Tensor:
        """Returns the piece's part of all scales as `(rows, 1)`, a view."""
        return scales[self.blocks].unsqueeze(1)

    def floats(self, scratch: Tensor) -> Tensor:
        """Returns the beginning of `scratch` `(N,)` as `(rows, width)`, a view."""
        return Piece(slice(0, self.numbers.stop - self.numbers.start), self.blocks, self.width).rows(scratch)


def pieces(n_numbers: int, most: int) -> Iterator[Piece]:
    """Cuts so many numbers into pieces of at most `most`, a multiple of `BLOCK`."""
    whole = n_numbers - n_numbers % BLOCK
    for start in range(0, whole, most):
        stop = min(start + most, whole)
        yield Piece(slice(start, stop), slice(start // BLOCK, stop // BLOCK), BLOCK)
    if whole < n_numbers:
        yield Piece(slice(whole, n_numbers), slice(whole // BLOCK, None), n_numbers - whole)


def n_blocks(n_numbers: int) -> int:
    """Returns how many scales so many numbers have."""
    return -(-n_numbers // BLOCK)


def dither(step: Tensor) -> Tensor:
    """Returns the pattern of a step, `(BLOCK,)`, from -1/2 to 1/2. `step` is a float scalar on the device."""
    pattern = torch.arange(BLOCK, device=step.device, dtype=step.dtype).mul_(_BETWEEN_NUMBERS)
    moved = step.remainder(_PARTS).mul_(_BETWEEN_STEPS)
    return pattern.add_(moved).remainder_(_PARTS).add_(0.5).div_(_PARTS).sub_(0.5)


def read_first(codes: Tensor, scales: Tensor, out: Tensor, scratch: Tensor) -> None:
    """Writes first moments to `out`: `scale * sign(c) * (c / 127) ** 4`.

    Codes, `out` and `scratch` are `(rows, width)`, scales `(rows, 1)`.
    """
    out.copy_(codes)
    torch.abs(out, out=scratch)
    scratch.mul_(out)
    out.square_().mul_(scratch).mul_(scales / _LEVELS**4)


def read_second(codes: Tensor, scales: Tensor, out: Tensor) -> None:
    """Writes second moments to `out`: `scale * ((c + 129) / 256) ** 4`, shapes as for `read_first`."""
    out.copy_(codes).add_(129).square_().square_().mul_(scales / _LEVELS_SQ**4)


def write_first_(codes: Tensor, scales: Tensor, moments: Tensor, scratch: Tensor, up: Tensor) -> None:
    """Stores first moments as codes and scales, in place, shapes as for `read_first`; `up` is the dither."""
    torch.abs(moments, out=scratch)
    _take_scales_(scales, scratch)
    _fourth_root_(scratch).copysign_(moments).mul_(_LEVELS)
    codes.copy_(scratch.add_(up).round_())


def write_second_(codes: Tensor, scales: Tensor, moments: Tensor, up: Tensor) -> None:
    """Stores second moments in the same way; the floats in `moments` are lost."""
    _take_scales_(scales, moments)
    _fourth_root_(moments).mul_(_LEVELS_SQ).add_(up - 129).clamp_min_(-128)
    codes.copy_(moments.round_())


def _take_scales_(scales: Tensor, magnitudes: Tensor) -> None:
    """Sets the scales, and divides by them."""
    torch.amax(magnitudes, 1, keepdim=True, out=scales)
    scales.clamp_min_(_LEAST_SCALE)
    magnitudes.mul_(scales.reciprocal())


def _fourth_root_(x: Tensor) -> Tensor:
    return x.rsqrt_().rsqrt_()  # a square root needs five times the time on a CPU; 0 gives 0
