"""What was said of a split's images, as text and as plain values."""

from collections.abc import Iterator, Sequence
from typing import Any

from tinytl.errors import without_controls
from tinytl.training.judgements import Judgements, OfClass
from tinytl.training.mistakes import Judged, confused_pairs

MOST_CLASSES = 20
"""Classes that a table shows; of more, those with the lowest F1."""
MOST_PAIRS = 5
"""Pairs of classes that are named as the most confused."""
MOST_PICTURES = 5
"""Pictures that are named as the worst mistakes."""


def flat(found: Judgements, classes: tuple[str, ...]) -> dict[str, Any]:
    """Returns all figures: accuracies as fractions, and lists in the order of the classes."""
    return {
        **found.figures(),
        "loss": found.loss,
        "expected_calibration_error": found.calibration_error,
        "per_class": [row._asdict() for row in found.by_class(classes)],
        "confusion": found.confusion(len(classes)).tolist(),
        "reliability": [part._asdict() for part in found.reliability()],
    }


def lines(found: Judgements, classes: tuple[str, ...]) -> Iterator[str]:
    """Yields the figures as text: of all images, of each class, and the classes that are confused."""
    yield f"accuracy {_figure(found, 'accuracy_top1')}, loss {found.loss:.3f}"
    yield f"balanced accuracy {_figure(found, 'balanced_accuracy')}, macro F1 {_figure(found, 'macro_f1')}"
    yield f"confidence misses accuracy by {found.calibration_error:.3f} on average"
    yield ""
    yield from _table(found.by_class(classes))
    yield from _confused(found, classes)


def picture_lines(mistakes: Sequence[Judged]) -> Iterator[str]:
    """Yields the worst mistakes as text, the surest first."""
    if mistakes:
        yield ""
        yield "surest and wrong:"
    for one in mistakes[:MOST_PICTURES]:
        yield f"  {without_controls(one.file)}: {one.predicted} {one.confidence:.3f}, not {one.label}"


def _figure(found: Judgements, metric: str) -> str:
    return f"{getattr(found, metric):.3f} ± {found.standard_error(metric):.3f}"


def _table(rows: list[OfClass]) -> Iterator[str]:
    shown = sorted(rows, key=lambda row: (row.f1 is None, row.f1 or 0.0))
    if len(rows) > MOST_CLASSES:
        yield f"the {MOST_CLASSES} of {len(rows)} classes with the lowest F1:"
    shown = shown[:MOST_CLASSES]
    width = max(len("class"), *(len(row.name) for row in shown))
    yield f"{'class':{width}}  images  precision  recall     F1"
    for row in shown:
        yield (
            f"{row.name:{width}}  {row.n_images:6}  {_share(row.precision):>9}  {_share(row.recall):>6}  "
            f"{_share(row.f1):>5}"
        )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _confused(found: Judgements, classes: tuple[str, ...]) -> Iterator[str]:
    pairs = confused_pairs(found.confusion(len(classes)))[:MOST_PAIRS]
    if pairs:
        yield ""
        yield "most often wrong:"
    for pair in pairs:
        truth, said = classes[pair.truth], classes[pair.predicted]
        yield f"  {truth} taken for {said}: {pair.n_taken} of {pair.n_images}"
