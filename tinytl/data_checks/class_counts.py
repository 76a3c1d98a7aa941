"""Classes with few pictures, classes that a split lacks, and how uneven classes are."""

import numpy as np

from tinytl.data_checks.checked_set import CheckedSet
from tinytl.data_checks.findings import ENOUGH_PER_CLASS, Finding
from tinytl.plural import counted

IMBALANCE = 3.0
"""Largest class over the smallest, in training pictures, from which a set is called uneven."""


def find_thin_classes(pictures: CheckedSet, enough: int = ENOUGH_PER_CLASS) -> list[Finding]:
    """Returns a finding for each class that is thin, or missing in a split, and one for imbalance."""
    counts = {
        name: np.bincount(part.labels, minlength=len(pictures.classes))
        for name, part in pictures.parts.items()
    }
    found = [
        _finding("missing_class", name, label, 0, f"no picture of {label} is in {name}")
        for name, of_class in counts.items()
        for label, count in zip(pictures.classes, of_class.tolist(), strict=True)
        if count == 0
    ]
    train = counts["train"]
    for number in np.argsort(train, kind="stable"):
        if 0 < train[number] < enough:
            label, count = pictures.classes[number], int(train[number])
            found.append(_finding("few_pictures", "train", label, count, _few(label, count, enough)))
    judged = next(name for name in ("val", "test", "train") if name in counts)
    smallest, largest = int(train.argmin()), int(train.argmax())
    if train[largest] >= IMBALANCE * max(1, train[smallest]):
        share = counts[judged][largest] / counts[judged].sum()
        times = train[largest] / max(1, train[smallest])
        reason = (
            f"{pictures.classes[largest]} has {train[largest]:,} training pictures, "
            f"{pictures.classes[smallest]} {train[smallest]:,}: {times:.1f} times as many. Naming "
            f"{pictures.classes[largest]} every time gives an accuracy of {100 * share:.1f} % in {judged}"
        )
        named = pictures.classes[largest]
        found.append(_finding("imbalance", "train", named, times, reason, pictures.classes[smallest]))
    return found


def _few(label: str, count: int, least: int) -> str:
    return f"{label} has {counted(count, 'training picture')}, fewer than {least}"


def _finding(
    kind: str, split: str, label: str, number: float, reason: str, compared_with: str = ""
) -> Finding:
    return Finding(
        kind=kind,
        split=split,
        label=label,
        compared_with=compared_with,
        number=float(number),
        reason=reason,
    )
