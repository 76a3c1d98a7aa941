"""One thing that may be wrong with a data set, and the kinds of such things, the gravest first.

Imports nothing heavy.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

KINDS: Mapping[str, str] = {
    "leak": "The same picture in two splits",
    "near_leak": "Nearly the same picture in two splits",
    "conflict": "The same picture under two labels",
    "near_conflict": "Nearly the same picture under two labels",
    "label": "Labels that may be wrong",
    "broken": "Files that do not decode",
    "missing_class": "Classes that a split lacks",
    "few_pictures": "Classes with few training pictures",
    "imbalance": "Imbalance",
    "duplicate": "The same picture twice",
    "near_duplicate": "Nearly the same picture twice",
    "one_colour": "Pictures of one colour",
    "dark": "Dark pictures",
    "bright": "Bright pictures",
    "blurred": "Blurred pictures",
    "tiny": "Tiny pictures",
    "odd_shape": "Pictures of an odd shape",
}
"""Each kind with its title, in the order in which kinds are shown."""

ENOUGH_PER_CLASS = 20
"""Training pictures of a class below which it is named. With a fifth of 25
pictures held out, five judge the class: each of them is 20 points of its accuracy."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that a person should look at."""

    kind: str
    """A key of KINDS."""
    split: str
    label: str
    """The class."""
    file: str = ""
    """Path relative to the data folder; empty if a whole class is meant. Of two pictures that are alike, the
    one to drop: that of the training images, or the later one."""
    compared_with: str = ""
    """The other picture's path, or the class that a picture or a class is compared with."""
    number: float
    """What was measured; its meaning depends on the kind, and `reason` says it in words."""
    reason: str


def by_kind(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Returns the findings of each kind that has any, in the order of KINDS."""
    groups: dict[str, list[Finding]] = {kind: [] for kind in KINDS}
    for finding in findings:
        groups[finding.kind].append(finding)
    return {kind: group for kind, group in groups.items() if group}
