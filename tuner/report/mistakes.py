"""What a trial's network gets wrong, for the page: classes, confusion, calibration, pictures.

Imports neither torch nor ray.
"""

from typing import Any

from tinytl.errors import ConfigError, without_controls
from tinytl.runs.judged_pictures import LEAST_CERTAIN, WORST_MISTAKES, galleries
from tinytl.training.judgements import Judgements
from tinytl.training.mistakes import Judged, confused_pairs, matrix_classes
from tuner.findings.study_pictures import StudyPictures, known_classes
from tuner.findings.sureness import judgements_in
from tuner.record.reading import StudyReading
from tuner.record.trials import Trial
from tuner.report.thumbnails import Thumbnails

MOST_PAIRS = 12
"""Pairs of classes that are named as the most confused."""
MOST_IN_GALLERY = 24
"""Pictures of each gallery."""
TITLES = {WORST_MISTAKES: "Surest and wrong", LEAST_CERTAIN: "Least certain"}


def mistakes_section(
    study: StudyReading, trial: Trial, pictures: StudyPictures | None, why_none: str, thumbnails: Thumbnails
) -> dict[str, Any]:
    """Returns what the section shows of a trial.

    `pictures`: of the study; if there are none, `why_none` says why in a line.
    """
    content: dict[str, Any] = {"trial": trial.name, "label": trial.label, "found": None, "notes": []}
    found = judgements_in(study.folder / trial.name)
    if found is None:
        content["notes"].append(_why_not_judged(trial))
        return content
    classes, shown = known_classes(study, found), []
    if pictures is not None:
        try:
            named = pictures.judged(found.labels)
            classes = pictures.classes
            shown = _galleries(galleries(found, named, classes, MOST_IN_GALLERY), thumbnails)
        except ConfigError as error:
            why_none = str(error)
    if not shown:
        content["notes"].append(f"Without pictures: {without_controls(why_none)}")
    return content | {
        "found": _figures(found),
        "classes": _class_rows(found, classes),
        "pairs": _pairs(found, classes),
        "matrix": _matrix(found, classes),
        "reliability": _reliability(found),
        "galleries": shown,
    }


def _why_not_judged(trial: Trial) -> str:
    if trial.state != "complete":
        return f"{trial.label} is {trial.state}: only complete trials keep what they said of each picture."
    return f"{trial.label} has no val_judgements.npz: an older version trained it, or the file is gone."


def _figures(found: Judgements) -> str:
    return (
        f"accuracy {found.accuracy_top1:.3f}, balanced accuracy {found.balanced_accuracy:.3f}, macro F1 "
        f"{found.macro_f1:.3f} on {len(found.labels):,} validation images"
    )


def _class_rows(found: Judgements, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Returns a row per class, the lowest F1 first; an undefined figure is empty."""
    rows = sorted(found.by_class(classes), key=lambda row: (row.f1 is None, row.f1 or 0.0))
    return [
        {
            "name": row.name,
            "figures": [
                str(row.n_images),
                *("" if value is None else f"{value:.3f}" for value in (row.precision, row.recall, row.f1)),
            ],
        }
        for row in rows
    ]


def _pairs(found: Judgements, classes: tuple[str, ...]) -> list[str]:
    pairs = confused_pairs(found.confusion(len(classes)))[:MOST_PAIRS]
    return [
        f"{classes[pair.truth]} taken for {classes[pair.predicted]}: {pair.n_taken} of {pair.n_images}"
        for pair in pairs
    ]


def _matrix(found: Judgements, classes: tuple[str, ...]) -> dict[str, Any]:
    """Returns counts, each with its share of the true class's images, in percent."""
    counts = found.confusion(len(classes))
    chosen, n_images = matrix_classes(counts), counts.sum(1)
    note = "A row per true class, a column per predicted one: numbers of images. Colour: the share of a row."
    if len(chosen) < len(classes):
        note += f" The {len(chosen)} of {len(classes)} classes that are confused most."
    rows = [
        {
            "name": classes[i],
            "cells": [
                {"count": int(counts[i, j]), "percent": round(100 * counts[i, j] / max(n_images[i], 1))}
                for j in chosen
            ],
        }
        for i in chosen
    ]
    return {"note": note, "names": [classes[i] for i in chosen], "rows": rows}


def _reliability(found: Judgements) -> dict[str, Any]:
    """Returns the bins of confidence, and the expected calibration error; fractions."""
    parts = found.reliability()
    most = max(part.n_images for part in parts)
    points = [part._asdict() | {"share_of_most": part.n_images / most} for part in parts]
    sure = sum(part.n_images * (part.confidence - part.accuracy) for part in parts)
    return {
        "points": points,
        "error": f"{found.calibration_error:.3f}",
        "words": "too sure" if sure > 0 else "not sure enough",
    }


def _galleries(judged: dict[str, list[Judged]], thumbnails: Thumbnails) -> list[dict[str, Any]]:
    return [
        {"title": TITLES[name], "items": [_item(one, thumbnails) for one in shown]}
        for name, shown in judged.items()
        if shown
    ]


def _item(one: Judged, thumbnails: Thumbnails) -> dict[str, Any]:
    wrong = one.predicted != one.label
    label = f"not {one.label} ({one.label_probability:.3f})" if wrong else "which is its label"
    return {
        "file": without_controls(one.file),
        "picture": thumbnails.of(one.file),
        "said": f"{one.predicted} ({one.confidence:.3f})",
        "label": label,
        "wrong": wrong,
    }
