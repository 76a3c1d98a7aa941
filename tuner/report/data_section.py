"""What may be wrong with a study's data, for the page and as a table. Imports neither torch nor ray."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinytl.data_checks.findings import KINDS, Finding, by_kind
from tinytl.data_checks.kept import kept_check
from tinytl.data_checks.page import is_pair
from tinytl.data_checks.written import write_csv
from tinytl.errors import ConfigError, without_controls
from tuner.findings.label_errors import best_judgements, likely_label_errors
from tuner.findings.study_pictures import StudyPictures
from tuner.next_commands import check_command
from tuner.record import schema
from tuner.record.reading import StudyReading
from tuner.report.thumbnails import Thumbnails

MOST_LABELS = 24
"""Likely label errors on the page; the table has all."""
MOST_OF_A_KIND = 6
"""Findings of every other kind on the page."""
_ALL = "Copies across splits, odd pictures, thin classes and the labels of training images are found by"
_LABELS_ONLY = "Labels of training images are looked at by"


def data_section(
    study: StudyReading, pictures: StudyPictures | None, why_none: str, thumbnails: Thumbnails
) -> dict[str, Any]:
    """Returns likely label errors of the validation images, and what an earlier check of the data found.

    `pictures`: of the study; if there are none, `why_none` says why in a line.
    """
    labels, notes = _label_errors(study, pictures, why_none)
    digest = study.attributes.get(schema.IMAGES_DIGEST)
    check = None if digest is None else kept_check(digest)
    named = {finding.file for finding in labels}
    others = [] if check is None else check.findings
    found = [*labels, *(f for f in others if f.kind != "label" or f.file not in named)]
    if check is not None:
        notes.append(f"The rest is from the last tinytl check of these pictures ({check.account}).")
    command = None
    if pictures is not None and (check is None or not check.labels):
        command = check_command(pictures.config)
    return {
        "notes": [without_controls(note) for note in notes],
        "groups": [_group(kind, group, thumbnails) for kind, group in by_kind(found).items()],
        "looks_for": _LABELS_ONLY if check is not None else _ALL,
        "command": command,
        "findings": None if pictures is None and check is None else found,
        "table": None,
    }


def write_data_table(data: dict[str, Any], report: Path) -> list[Path]:
    """Writes all findings of a section beside the report, in the form that `--exclude` reads.

    Returns the file, which the section then names; none if nothing was looked at.

    Raises:
        ConfigError: if it cannot be written.
    """
    if data["findings"] is None:
        return []
    path = report.with_name(f"{report.stem}_data.csv")
    write_csv(data["findings"], path)  # an empty one, too: an older one would name what is mended
    if any(finding.file for finding in data["findings"]):
        data["table"] = path.name
    return [path]


def _label_errors(
    study: StudyReading, pictures: StudyPictures | None, why_none: str
) -> tuple[list[Finding], list[str]]:
    """Returns likely label errors, and a line that says where they come from or why there are none."""
    if pictures is None:
        return [], [f"Labels were not looked at: {why_none}"]
    judged = best_judgements(study)
    if not judged:
        return [], ["Labels were not looked at: no trial has kept what it said of each validation image."]
    try:
        named = pictures.judged(judged[0].labels)
        found = likely_label_errors(judged, named, pictures.classes)
    except ConfigError as error:
        return [], [f"Labels were not looked at: {error}"]
    trials = "the best trial" if len(judged) == 1 else f"the {len(judged)} best trials"
    return found, [
        f"Labels that may be wrong: {len(found):,} of {len(named):,} validation images, the likeliest first, "
        f"by confident learning on what {trials} said of them. The best is right about "
        f"{judged[0].accuracy_top1:.0%}: it doubts right labels, too, so read from the top, and look at each "
        "image before it is left out, as accuracy is measured on these. Other images are not judged so."
    ]


def _group(kind: str, group: Sequence[Finding], thumbnails: Thumbnails) -> dict[str, Any]:
    most = MOST_LABELS if kind == "label" else MOST_OF_A_KIND
    return {
        "kind": kind,
        "title": f"{KINDS[kind]}: {len(group):,}",
        "items": [_item(finding, thumbnails) for finding in group[:most]],
        "more": max(0, len(group) - most),
    }


def _item(finding: Finding, thumbnails: Thumbnails) -> dict[str, Any]:
    files = [finding.file, finding.compared_with if is_pair(finding) else ""]
    return {
        "file": without_controls(finding.file),
        "pictures": [picture for file in files if file and (picture := thumbnails.of(file)) is not None],
        "about": f"{finding.split}, {finding.label}" if finding.file else "",
        "reason": without_controls(finding.reason),
    }
