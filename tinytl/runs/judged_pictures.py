"""What was said of the pictures of a split, with their names: galleries of those that a person should see.

Imports no torch.
"""

from collections.abc import Sequence

from tinytl.data.named_pictures import NamedPictures
from tinytl.training.judgements import Judgements
from tinytl.training.mistakes import MOST_SHOWN, Judged, judged_picture, least_certain, worst_mistakes

WORST_MISTAKES, LEAST_CERTAIN = "worst_mistakes", "least_certain"


def galleries(
    found: Judgements, pictures: NamedPictures, classes: tuple[str, ...], most: int = MOST_SHOWN
) -> dict[str, list[Judged]]:
    """Returns both galleries, at most `most` pictures each.

    `pictures`: those that were judged, in that order (`as_judged`).
    """

    def named(rows: Sequence[int]) -> list[Judged]:
        return [judged_picture(found, row, pictures.file(row), classes) for row in rows]

    return {
        WORST_MISTAKES: named(worst_mistakes(found, most).tolist()),
        LEAST_CERTAIN: named(least_certain(found, most).tolist()),
    }
