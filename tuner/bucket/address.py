"""What `--runs-dir` may name: a folder, or a prefix in a bucket. Imports nothing heavy."""

import re
import urllib.parse
from pathlib import Path

from tinytl.errors import ConfigError
from tinytl.passwords import without_password

EXTRAS = {"s3": "s3", "gs": "gs"}
"""Schemes of buckets, and the extra that installs what reads them."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_PLACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,}(/[A-Za-z0-9._=+-]+)*")


def is_bucket(runs_dir: str) -> bool:
    """Whether `--runs-dir` names a bucket; its spelling is not checked."""
    return runs_dir.startswith(tuple(f"{scheme}://" for scheme in EXTRAS))


def checked_runs_dir(runs_dir: str) -> str:
    """Returns `--runs-dir` in one spelling: a path, also of `file://`, or an address without a last slash.

    Raises:
        ConfigError: for another scheme, or an address that cannot be read.
    """
    found = _SCHEME.fullmatch(runs_dir)
    if found is None:
        return runs_dir
    scheme, rest = found[1].lower(), found[2]
    shown = without_password(runs_dir)
    if scheme == "file":
        path = urllib.parse.unquote(rest.removeprefix("localhost"))
        if not Path(path).is_absolute():
            raise ConfigError(
                f"--runs-dir {shown}: write the whole path of a folder, such as file:///srv/runs"
            )
        return path
    if scheme not in EXTRAS:
        raise ConfigError(
            f"--runs-dir {shown}: {scheme}:// is not supported: name a folder, s3://BUCKET/PREFIX or "
            "gs://BUCKET/PREFIX"
        )
    place = rest.rstrip("/")
    if not _PLACE.fullmatch(place) or {".", ".."} & set(place.split("/")):
        raise ConfigError(
            f"--runs-dir {shown}: write {scheme}://BUCKET/PREFIX, of letters, digits, '.', '_', '-', '=' and "
            "'+'; keys and endpoints are given by environment variables"
        )
    return f"{scheme}://{place}"
