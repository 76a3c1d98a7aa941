import math

import pytest
import torch
from torch import Tensor

from tinytl.training.int8_moments import (
    BLOCK,
    dither,
    n_blocks,
    pieces,
    read_first,
    read_second,
    write_first_,
    write_second_,
)

NEAREST = torch.zeros(BLOCK)


def _stored(moments: Tensor, up: Tensor, second: bool) -> Tensor:
    """Returns `(rows, BLOCK)` moments as they are read after they were written."""
    codes, scales = torch.empty(moments.shape, dtype=torch.int8), torch.empty(len(moments), 1)
    out, scratch = torch.empty_like(moments), torch.empty_like(moments)
    if second:
        write_second_(codes, scales, moments.clone(), up)
        read_second(codes, scales, out)
    else:
        write_first_(codes, scales, moments.clone(), scratch, up)
        read_first(codes, scales, out, scratch)
    return out


@pytest.mark.parametrize(("n", "most"), [(4096, 512), (4100, 512), (255, 256), (1, 256), (1000, 4096)])
def test_pieces_are_all_numbers_once(n: int, most: int) -> None:
    numbers, scales = torch.zeros(n), torch.zeros(n_blocks(n))
    for piece in pieces(n, most):
        rows = piece.rows(numbers)
        assert rows.numel() <= most and rows.shape[1] <= BLOCK
        assert (
            piece.scales(scales).shape == (len(rows), 1)
            and piece.floats(torch.zeros(most)).shape == rows.shape
        )
        rows += 1
        piece.scales(scales).add_(1)
    assert bool((numbers == 1).all()) and bool((scales == 1).all())


@pytest.mark.parametrize("second", [False, True])
def test_a_number_is_stored_to_the_nearest_code(second: bool) -> None:
    moments = torch.logspace(-8, 0, 4 * BLOCK).view(-1, BLOCK) * 3e-5
    if not second:
        moments[:, ::2] *= -1
    stored = _stored(moments, NEAREST, second)
    root, root_stored = moments.abs() ** 0.25, stored.abs() ** 0.25
    scale = root.amax(1, keepdim=True)
    assert float(((root - root_stored).abs() / scale).max()) <= 0.501 / (256 if second else 127)
    largest = moments.abs() == moments.abs().amax(1, keepdim=True)
    torch.testing.assert_close(stored[largest], moments[largest], rtol=1e-5, atol=0.0)
    nonzero = stored != 0
    assert bool((stored.sign() == moments.sign())[nonzero].all())


def test_zeros_stay_zeros_and_a_small_second_moment_stays_above_zero() -> None:
    zeros = torch.zeros(2, BLOCK)
    for up in (dither(torch.tensor(1.0)), NEAREST):
        assert not _stored(zeros, up, second=False).any()
        assert float(_stored(zeros, up, second=True).max()) < 1e-37
        moments = torch.full((1, BLOCK), 1e-20)
        moments[0, 0] = 1.0
        least = _stored(moments, up, second=True)[0, 1:]
        assert 2.0**-33 < float(least.min()) <= float(least.max()) < 2.0**-27


def test_the_dither_lies_evenly_over_steps_and_over_numbers() -> None:
    patterns = torch.stack([dither(torch.tensor(float(step))) for step in range(1, 101)])
    assert patterns.shape == (100, BLOCK) and float(patterns.abs().max()) < 0.5
    for values in (patterns.T, patterns):  # of a number, of a step
        values, _ = values.sort(dim=1)
        n = values.shape[1]
        even = (torch.arange(n) + 0.5) / n - 0.5
        assert float((values - even).abs().max()) < 4 / n
    late = dither(torch.tensor(2.0**24 - 1))
    assert torch.equal(late, dither(torch.tensor(2.0**24 - 1))) and late.unique().numel() == BLOCK


def _followed(factor: float, n_steps: int, up: bool) -> Tensor:
    """Returns how much of it is left of each second moment, stored at each step, over what should be.

    All but the largest fall by `factor` per step, and the largest stays.
    """
    moments = torch.logspace(-6, 0, BLOCK).view(1, BLOCK)
    factors = torch.full_like(moments, factor)
    factors[0, -1] = 1.0
    stored = moments
    for step in range(1, n_steps + 1):
        stored = _stored(stored * factors, dither(torch.tensor(float(step))) if up else NEAREST, second=True)
    return (stored / (moments * factors**n_steps))[0]


def test_second_moments_follow_small_changes_that_rounding_to_the_nearest_code_would_lose() -> None:
    followed = _followed(0.999, 1000, up=True)
    assert 0.9 < float(followed.median()) < 1.1 and float(followed.max()) < 2 and float(followed.min()) > 0.5
    lost = _followed(0.999, 1000, up=False)
    assert float(lost.median()) == pytest.approx(0.999**-1000, rel=0.1)  # they stayed where they were


def test_first_moments_add_up_over_steps_to_the_number() -> None:
    torch.manual_seed(0)
    moments = torch.randn(1, BLOCK)
    sums = torch.zeros_like(moments)
    for step in range(1, 201):
        sums += _stored(moments, dither(torch.tensor(float(step))), second=False)
    error = (sums / 200 - moments).abs()
    assert float(error.max()) < 0.01 * float(moments.abs().max())
    nearest = (_stored(moments, NEAREST, second=False) - moments).abs()
    assert float(error.mean()) < 0.3 * float(nearest.mean())


def test_a_number_that_is_none_is_not_hidden() -> None:
    moments = torch.ones(1, BLOCK)
    moments[0, 3] = math.nan
    assert bool(_stored(moments, NEAREST, second=False).isnan().all())
    assert bool(_stored(moments, NEAREST, second=True).isnan().all())
