"""The last check of a data set, kept in the cache folder: the report of a study shows it without a new one.

The name of a file has the digest of the pictures that were checked, so it says nothing of others. Imports no
torch.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tinytl.data_checks.findings import Finding
from tinytl.data_checks.written import as_json, findings_in
from tinytl.errors import ConfigError
from tinytl.files import cache_folder, naming_the_file, write_whole

FOLDER = "checks"
"""In the cache folder."""


@dataclass(frozen=True, kw_only=True)
class KeptCheck:
    """What an earlier check found."""

    account: str
    """What was checked, a line."""
    findings: Sequence[Finding]
    labels: bool
    """Whether it looked for wrong labels."""


def keep_check(check: KeptCheck, digest: str, n_pictures: int) -> None:
    """Writes a check of pictures that have this digest. Without a place to write, nothing is kept."""
    with suppress(ConfigError, RuntimeError):  # a full or foreign disk, or no home folder: a cache may miss
        path = _file(digest, labels=check.labels)
        with naming_the_file(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, as_json(check.account, n_pictures, check.findings) + "\n")


def kept_check(digest: str) -> KeptCheck | None:
    """Returns the last check of the pictures that have this digest, rather one that looked at labels, too.

    None: they were not checked here, or its file is damaged.
    """
    for labels in (True, False):
        with suppress(OSError, ValueError, KeyError, TypeError, RuntimeError):
            content = json.loads(_file(digest, labels=labels).read_text())
            findings = findings_in(content)
            return KeptCheck(account=str(content["data"]), findings=findings, labels=labels)
    return None


def _file(digest: str, *, labels: bool) -> Path:
    return cache_folder() / FOLDER / f"{digest}{'-labels' if labels else ''}.json"
