"""The same picture twice, or nearly: across splits, under two labels, or merely twice.

Each picture is compared with all before it, test images first. So of two that are alike the training image,
or else the later one, is the one that a finding names, and one of them stays if all named ones are dropped.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tinytl.data_checks.checked_set import CheckedSet
from tinytl.data_checks.findings import Finding
from tinytl.data_checks.odd_pictures import ONE_COLOUR

MOST_BITS = 14
"""Bits of 64 in which the hashes of two pictures that are nearly the same differ at most. Flat and symmetric
pictures have frequencies near zero, whose bits any compression turns, so many may differ; colours decide."""
MOST_COLOUR = 4.0
"""Mean difference of their colours, 0 to 255, at most, once each channel's mean is taken off."""
Rows = npt.NDArray[np.int64]


def find_duplicates(pictures: CheckedSet, facts: npt.NDArray[np.void], whole: Rows) -> list[Finding]:
    """Returns a finding for each picture that repeats another one, the gravest kinds first.

    `whole`: the rows that decode. Time grows with the square of their number: about 10 s for 100,000.
    """
    copies = dict(_copies(facts, whole))
    found = [_finding(pictures, row, first, None) for row, first in copies.items()]
    alone = whole[~np.isin(whole, list(copies))]
    # A picture of one colour is like any other of that colour: it is odd, not a copy.
    patterned = alone[facts["deviation"][alone] >= ONE_COLOUR]
    found += [_finding(pictures, row, other, bits) for row, other, bits in _near(pictures, facts, patterned)]
    return found


def _copies(facts: npt.NDArray[np.void], rows: Rows) -> Iterator[tuple[int, int]]:
    """Yields each row whose pixels an earlier row has, with the first such row."""
    _, first, which = np.unique(facts["digest"][rows], return_index=True, return_inverse=True)
    firsts = rows[first[which]]
    for row, other in zip(rows.tolist(), firsts.tolist(), strict=True):
        if row != other:
            yield row, other


def _near(pictures: CheckedSet, facts: npt.NDArray[np.void], rows: Rows) -> Iterator[tuple[int, int, int]]:
    """Yields each row that is nearly like an earlier one, with that one and the bits between their hashes.

    Of several, one of another split is named, else one of another class, else the nearest.
    """
    if not len(rows):
        return
    hashes = np.ascontiguousarray(facts["hash"][rows])
    colours = _without_mean(facts["colours"][rows])
    for place in range(1, len(rows)):
        bits = np.bitwise_count(hashes[:place] ^ hashes[place])
        near = np.flatnonzero(bits <= MOST_BITS)
        if not len(near):
            continue
        near = near[np.abs(colours[near] - colours[place]).mean(axis=1) <= MOST_COLOUR]
        if not len(near):
            continue
        row, others = rows[place], rows[near]
        same_split = pictures.splits[others] == pictures.splits[row]
        same_label = pictures.labels[others] == pictures.labels[row]
        best = np.lexsort((near, bits[near], same_label, same_split))[0]
        yield int(row), int(others[best]), int(bits[near[best]])


def _without_mean(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
    """Returns colours `(N, pixels x 3)` less each picture's mean of each channel: light counts less."""
    by_channel = colours.reshape(len(colours), -1, 3).astype(np.int16)
    means = np.rint(colours.reshape(len(colours), -1, 3).mean(axis=1, dtype=np.float32)).astype(np.int16)
    return (by_channel - means[:, None]).reshape(colours.shape)


def _finding(pictures: CheckedSet, row: int, other: int, bits: int | None) -> Finding:
    """`bits`: those between two hashes; None for the same pixels."""
    across = pictures.splits[row] != pictures.splits[other]
    conflict = pictures.labels[row] != pictures.labels[other]
    kind = "leak" if across else "conflict" if conflict else "duplicate"
    what = "the same picture as" if bits is None else "nearly the same picture as"
    differs = [f"is in {pictures.split(other)}, not {pictures.split(row)}"] if across else []
    differs += [f"is labelled {pictures.label(other)}, not {pictures.label(row)}"] if conflict else []
    which = f", which {' and '.join(differs)}" if differs else ""
    return Finding(
        kind=kind if bits is None else f"near_{kind}",
        split=pictures.split(row),
        label=pictures.label(row),
        file=pictures.file(row),
        compared_with=pictures.file(other),
        number=float(bits or 0),
        reason=f"{what} {pictures.file(other)}{which}",
    )
