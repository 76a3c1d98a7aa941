"""Pictures that stand out from their own data set: dark, bright, of one colour, blurred, tiny, of odd shape.

A picture is odd if a figure of it passes a limit that holds for any set, and lies far from what is usual in
this one. So a set that is dark throughout has no dark pictures, but one that is black stands out in it. Far
means a modified z-score above 3.5 (Iglewicz and Hoaglin, "How to Detect and Handle Outliers", 1993) of the
figure's logarithm: distances from the median in robust standard deviations. These count as 0.3 of a doubling
at least, so that what is odd is half or double the usual in a set whose pictures are all alike.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinytl.data_checks.checked_set import CheckedSet
from tinytl.data_checks.findings import Finding

Figures = npt.NDArray[np.float64]

FAR = 3.5
"""Robust standard deviations."""
DEVIATION_OF_MAD = 1.4826
"""A normal distribution's standard deviation over its median absolute deviation."""
SMALLEST_DEVIATION = 0.3
"""Doublings: with FAR, about a factor of 2."""

ONE_COLOUR = 5.0
"""Standard deviation of the most varied channel, of 255, below which a picture is of one colour."""
DARK = 64.0
"""Brightness, of 255, below which 99 % of a dark picture's pixels lie."""
BRIGHT = 25.0
"""Distance from white, of 255, below which 99 % of a bright picture's pixels lie."""
BLURRED = 100.0
"""Variance of the Laplacian below which a picture may be blurred."""
TINY_SHARE = 0.5
"""Share of the training resolution below which a picture's shorter edge is tiny."""
ODD_SHAPE = 2.0
"""Width over height, or height over width, above which a shape may be odd: the central square that training
sees is then less than half of the picture."""


@dataclass(frozen=True)
class _Rule:
    kind: str
    figure: Callable[[npt.NDArray[np.void]], Figures]
    """Of each picture; small ones are odd."""
    limit: float
    words: Callable[[npt.NDArray[np.void], int], str]
    """The reason, of one picture and the training resolution."""


def _height_and_width(facts: npt.NDArray[np.void]) -> tuple[Figures, Figures]:
    return facts["height"].astype(np.float64), facts["width"].astype(np.float64)


def _shorter(facts: npt.NDArray[np.void]) -> Figures:
    return np.minimum(*_height_and_width(facts))


_LEVELS = (
    _Rule(
        "one_colour",
        lambda facts: facts["deviation"].astype(np.float64),
        ONE_COLOUR,
        lambda one, _: f"its colours vary by {one['deviation']:.1f} of 255",
    ),
    _Rule(
        "dark",
        lambda facts: facts["lightest"].astype(np.float64),
        DARK,
        lambda one, _: f"99 % of it is darker than {one['lightest']:.0f} of 255",
    ),
    _Rule(
        "bright",
        lambda facts: 255 - facts["darkest"].astype(np.float64),
        BRIGHT,
        lambda one, _: f"99 % of it is brighter than {one['darkest']:.0f} of 255",
    ),
    _Rule(
        "blurred",
        lambda facts: facts["sharpness"].astype(np.float64),
        BLURRED,
        lambda one, _: f"it has few edges: the variance of its Laplacian is {one['sharpness']:.1f}",
    ),
)
"""The first that a picture breaks is named: one of a single colour is also blurred, and may be dark."""


def find_odd_pictures(
    pictures: CheckedSet, facts: npt.NDArray[np.void], whole: npt.NDArray[np.int64], resolution: int
) -> list[Finding]:
    """Returns a finding for each odd picture and its kind, the oddest of a kind first.

    `whole`: the rows that decode. `resolution`: of training, in pixels.
    """
    seen = facts[whole]
    found: list[Finding] = []
    named = np.zeros(len(seen), bool)
    tiny = _Rule(
        "tiny",
        _shorter,
        TINY_SHARE * resolution,
        lambda one, side: (
            f"{one['width']} x {one['height']} pixels are less than half of the {side} px of training"
        ),
    )
    for rule in (*_LEVELS, tiny):
        figures = rule.figure(seen)
        odd = (figures < rule.limit) & (deviations(np.log2(1 + figures)) < -FAR)
        if rule is not tiny:
            odd &= ~named
            named |= odd
        places = np.flatnonzero(odd)
        places = places[np.argsort(figures[places], kind="stable")]
        found += [
            _finding(pictures, int(whole[p]), rule.kind, figures[p], rule.words(seen[p], resolution))
            for p in places
        ]
    return found + _odd_shapes(pictures, seen, whole)


def deviations(figures: Figures) -> Figures:
    """Returns the distance of each figure, in doublings, from their median, in robust deviations."""
    if not len(figures):
        return figures
    away = figures - np.median(figures)
    return away / max(DEVIATION_OF_MAD * float(np.median(np.abs(away))), SMALLEST_DEVIATION)


def _odd_shapes(
    pictures: CheckedSet, seen: npt.NDArray[np.void], whole: npt.NDArray[np.int64]
) -> list[Finding]:
    height, width = _height_and_width(seen)
    shape = np.log2(width / height)
    far = np.abs(deviations(shape))
    odd = np.flatnonzero((np.abs(shape) > np.log2(ODD_SHAPE)) & (far > FAR))
    return [
        _finding(
            pictures,
            int(whole[p]),
            "odd_shape",
            float(2 ** abs(shape[p])),
            f"{width[p]:.0f} x {height[p]:.0f} pixels: training sees {100 * 2 ** -abs(shape[p]):.0f} % of it",
        )
        for p in odd[np.argsort(-far[odd], kind="stable")]
    ]


def _finding(pictures: CheckedSet, row: int, kind: str, number: float, reason: str) -> Finding:
    return Finding(
        kind=kind,
        split=pictures.split(row),
        label=pictures.label(row),
        file=pictures.file(row),
        number=float(number),
        reason=reason,
    )
