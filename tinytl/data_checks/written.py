"""Findings as a table and as JSON, for programs and for the list of pictures to exclude."""

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinytl.data.excluded import COLUMN
from tinytl.data_checks.findings import KINDS, Finding, by_kind
from tinytl.files import naming_the_file, written_whole

COLUMNS = {
    "kind": "kind",
    "split": "split",
    "class": "label",
    COLUMN: "file",
    "compared_with": "compared_with",
    "number": "number",
    "reason": "reason",
}
"""The table's columns, and the field of a finding that each shows."""


def write_csv(findings: Sequence[Finding], path: Path) -> None:
    """Writes a line for each finding, the gravest first, whole or not at all.

    Names of files keep their bytes, so that `--exclude` finds them.

    Raises:
        ConfigError: if the file cannot be written.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for group in by_kind(findings).values():
        for finding in group:
            row = dataclasses.asdict(finding) | {"number": f"{finding.number:.6g}"}
            table.writerow([row[field] for field in COLUMNS.values()])
    with naming_the_file(path), written_whole(path) as out:
        out.write(text.getvalue().encode(errors="surrogateescape"))


def as_json(account: str, n_pictures: int, findings: Sequence[Finding]) -> str:
    """Returns all findings as JSON: what was checked, how many there are of each kind, and each of them."""
    groups = by_kind(findings)
    rows = [
        {column: getattr(finding, field) for column, field in COLUMNS.items()}
        for group in groups.values()
        for finding in group
    ]
    content = {
        "data": account,
        "images": n_pictures,
        "counts": {kind: len(group) for kind, group in groups.items()},
        "findings": rows,
    }
    return json.dumps(content, indent=2)


def findings_in(content: Mapping[str, Any]) -> list[Finding]:
    """Returns the findings in what `as_json` wrote, once it is read.

    Raises:
        KeyError, TypeError, ValueError: for anything else.
    """
    findings = [
        Finding(**{field: row[column] for column, field in COLUMNS.items()}) for row in content["findings"]
    ]
    unknown = {finding.kind for finding in findings} - set(KINDS)
    if unknown:
        raise ValueError(f"unknown kinds of findings: {unknown}")
    return findings
