"""MLflow's SQLite file in a bucket: one object, written when a study ends, if nobody else has meanwhile."""

import json
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tinytl.errors import ConfigError
from tuner.bucket.claims import TakenError, claimed
from tuner.bucket.copies import Copy, copy_of
from tuner.bucket.store import told

DATABASE = "mlflow.db"
_KNOWN = f".{DATABASE}.json"
_WAIT_S = 60.0
"""How long to wait for another study that is writing the object."""


def mlflow_at_hand(runs_dir: str) -> None:
    """Brings MLflow's database into a folder of studies, if that is the copy of a bucket's.

    Raises:
        ConfigError: if the bucket refuses or does not answer.
    """
    copy = copy_of(runs_dir)
    if copy is not None:
        with told(f"--runs-dir {copy.bucket.address}"):
            bring_database(copy)


def send_mlflow(runs_dir: str) -> None:
    """Sends MLflow's database of a folder of studies, if that is the copy of a bucket's and it has changed.

    Raises:
        ConfigError: if another process has sent it meanwhile, or the bucket refuses or does not answer.
    """
    copy = copy_of(runs_dir)
    if copy is not None:
        with told(f"--runs-dir {copy.bucket.address}"):
            if not send_database(copy):
                place = copy.bucket.named(DATABASE)
                raise ConfigError(f"{place} was written by another process meanwhile: do this again")


def bring_database(copy: Copy) -> None:
    """Brings MLflow's database, if the bucket has one that was not brought yet.

    Raises:
        BucketError: if the bucket refuses or does not answer.
    """
    there = _version_there(copy)
    if there is None or there == _known(copy).version:
        return
    content = copy.bucket.read(DATABASE)
    if content is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        brought = Path(folder, DATABASE)
        brought.write_bytes(content)
        _copy_database(brought, copy.root / DATABASE)  # a server may have the file open
    _keep(copy, there)


def send_database(copy: Copy) -> bool:
    """Writes MLflow's database to the bucket; returns False if there is another by now, which stays.

    Raises:
        BucketError: if the bucket refuses or does not answer.
    """
    known = _known(copy)
    if _state(copy) == known.state:
        return True
    try:
        with claimed(copy.bucket, DATABASE, _WAIT_S):
            if _version_there(copy) != known.version:
                return False
            with tempfile.TemporaryDirectory() as folder:
                whole = Path(folder, DATABASE)
                _copy_database(copy.root / DATABASE, whole)
                copy.bucket.write(DATABASE, whole.read_bytes())
            _keep(copy, _version_there(copy))
    except TakenError:
        return False
    return True


def _copy_database(source: Path, target: Path) -> None:
    """Copies a database as it is between two changes, into one that others may read."""
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)


class _Known(NamedTuple):
    """What is known of a database that was brought or sent."""

    version: str | None
    """In the bucket."""
    state: str | None
    """Of the file here, by which a change is seen."""


def _known(copy: Copy) -> _Known:
    path = copy.root / _KNOWN
    return _Known(*json.loads(path.read_text())) if path.is_file() else _Known(None, None)


def _keep(copy: Copy, version: str | None) -> None:
    (copy.root / _KNOWN).write_text(json.dumps(_Known(version, _state(copy))))


def _state(copy: Copy) -> str | None:
    path = copy.root / DATABASE
    if not path.is_file():
        return None
    about = path.stat()
    return f"{about.st_mtime_ns} {about.st_size}"


def _version_there(copy: Copy) -> str | None:
    return copy.bucket.versions("", deep=False).get(DATABASE)
