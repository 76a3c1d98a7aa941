"""A data set checked: listed, scanned once, and all findings in one list."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from tinytl.config.train_config import TrainConfig
from tinytl.data.named_pictures import named_parts
from tinytl.data.pictures import BrokenPicture
from tinytl.data.sets.digest import content_digest
from tinytl.data.splits import DataSplits, with_parts
from tinytl.data_checks.checked_set import CheckedSet
from tinytl.data_checks.class_counts import find_thin_classes
from tinytl.data_checks.duplicates import find_duplicates
from tinytl.data_checks.findings import Finding
from tinytl.data_checks.odd_pictures import find_odd_pictures
from tinytl.data_checks.page import is_pair
from tinytl.data_checks.scan import broken_files, scan
from tinytl.data_checks.thumbnails import SIDE, thumbnail
from tinytl.runs.progress import PlainProgress


@dataclass(frozen=True)
class Checked:
    """What was checked, and all that was found."""

    account: str
    pictures: CheckedSet
    findings: list[Finding]
    digest: str
    """Of the pictures that decode: that of a run or a study on them."""
    rows: Mapping[str, int]
    """The row of each picture that a finding names."""

    def thumbnail(self, file: str) -> bytes | None:
        """Returns a small JPEG of a picture that a finding names; None if it does not decode."""
        picture = self.pictures.picture(self.rows[file], at_least=SIDE)
        return None if isinstance(picture, BrokenPicture) else thumbnail(picture)


def check_dataset(config: TrainConfig, progress: PlainProgress, *, enough: int, labels: bool) -> Checked:
    """Checks the data set of `config`; with `labels`, looks for label errors, too.

    A class with fewer than `enough` training pictures is named. Reads every picture once, and 1,024 files of
    each split again for their digest; of each picture, 232 bytes stay in memory.

    Raises:
        ConfigError: as `list_dataset`; with `labels`, for weights that cannot be read.
    """
    data, named = named_parts(config, report=progress.report)
    pictures = CheckedSet(data.classes, named)
    account = data.account or f"{data.name}: {len(pictures):,} images of {len(data.classes)} classes"
    progress.report(account)
    with progress:
        progress.start(len(pictures) * (2 if labels else 1), 0)
        facts, broken = scan(pictures, config.resolution, progress.advance)
        whole = np.setdiff1d(np.arange(len(pictures)), list(broken))
        findings = [
            *find_duplicates(pictures, facts, whole),
            *broken_files(pictures, broken),
            *find_thin_classes(pictures, enough),
            *find_odd_pictures(pictures, facts, whole, config.resolution),
        ]
        if labels:
            from tinytl.data_checks.suspect_labels import find_suspect_labels

            findings += find_suspect_labels(pictures, whole, config, progress.advance)
    digest = content_digest(_without(data, pictures, broken))
    return Checked(account, pictures, findings, digest, _rows_of(pictures, findings))


def _without(data: DataSplits, pictures: CheckedSet, broken: Collection[int]) -> DataSplits:
    if not broken:
        return data
    whole = np.ones(len(pictures), bool)
    whole[list(broken)] = False
    kept = {
        name: part.take(np.flatnonzero(whole[pictures.rows_of(name)]))
        for name, part in pictures.parts.items()
    }
    return with_parts(data, kept)


def _rows_of(pictures: CheckedSet, findings: list[Finding]) -> dict[str, int]:
    named = {finding.file for finding in findings}
    named |= {finding.compared_with for finding in findings if is_pair(finding)}
    return {file: row for row in range(len(pictures)) if (file := pictures.file(row)) in named}
