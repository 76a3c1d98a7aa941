"""Every picture decoded once, in threads; of each only its facts stay in memory."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from tinytl.data.pictures import BrokenPicture
from tinytl.data_checks.checked_set import CheckedSet
from tinytl.data_checks.facts import FACTS, facts_of
from tinytl.data_checks.findings import Finding

AT_ONCE = 256
"""Pictures that are handed to the threads at a time; as many are decoded at once as there are threads."""


def scan(
    pictures: CheckedSet, side: int, advance: Callable[[int], None] = lambda count: None
) -> tuple[npt.NDArray[np.void], dict[int, BrokenPicture]]:
    """Returns FACTS of each picture, `(N,)`, and those that do not decode, by row: their facts are zero.

    `side`: see `facts_of`. `advance` is called with 1 as each picture is done.
    """
    facts = np.zeros(len(pictures), FACTS)
    broken: dict[int, BrokenPicture] = {}

    def look(row: int) -> npt.NDArray[np.void] | BrokenPicture:
        picture = pictures.picture(row)
        return picture if isinstance(picture, BrokenPicture) else facts_of(picture, side)

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(pictures), AT_ONCE):
            rows = range(start, min(start + AT_ONCE, len(pictures)))
            for row, found in zip(rows, pool.map(look, rows), strict=True):
                if isinstance(found, BrokenPicture):
                    broken[row] = found
                else:
                    facts[row] = found
                advance(1)
    return facts, broken


def broken_files(pictures: CheckedSet, broken: dict[int, BrokenPicture]) -> list[Finding]:
    """Returns a finding for each picture that does not decode."""
    return [
        Finding(
            kind="broken",
            split=pictures.split(row),
            label=pictures.label(row),
            file=pictures.file(row),
            number=0.0,
            reason=f"it does not decode ({one.reason})",
        )
        for row, one in broken.items()
    ]
