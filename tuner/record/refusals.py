"""What a disk or a database says when it refuses, in one line with what to do."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from optuna.exceptions import StorageInternalError

from tinytl.errors import ConfigError, causes
from tinytl.files import disk_is_full
from tinytl.passwords import without_password
from tuner.bucket.store import BucketError

_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_FORBIDDEN_TEXTS = ("permission denied for", "read-only", "readonly database")
"""How PostgreSQL and SQLite say it."""
BACK = "bring the disk or the database back"
"""What to do if nothing better is known."""


class UnwrittenError(RuntimeError):
    """The disk or the database refused a write; the text is what it said."""


def storage_errors(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """Returns what Optuna's storages raise if a disk or a database fails, and `more` that is expected."""
    from sqlalchemy.exc import SQLAlchemyError  # needs half a second, which a study with a journal saves

    return OSError, SQLAlchemyError, StorageInternalError, *more


def remedy_for(error: BaseException) -> str:
    """Returns what to do after a disk or a database failed with `error`."""
    if disk_is_full(error):
        return "make room"
    if isinstance(error, BucketError):
        return error.remedy
    for inner in causes(error):
        forbidden = any(text in str(inner) for text in _FORBIDDEN_TEXTS)
        if forbidden or getattr(inner, "errno", None) in _FORBIDDEN:
            return "allow writing there"
    return BACK


def what_it_said(error: BaseException) -> str:
    """Returns in one line what a disk or a database itself said."""
    while not isinstance(error, BucketError):  # what that came from has several lines
        inner = getattr(error, "orig", None) or error.__cause__
        if inner is None:
            break
        error = inner
    lines = str(getattr(error, "strerror", None) or error).strip().splitlines()
    return without_password(lines[0]) if lines else type(error).__name__


@contextmanager
def told_in_one_line(place: str, then: str = "") -> Iterator[None]:
    """Turns what a storage at `place` raises into one line, which ends with what to do `then`.

    Raises:
        ConfigError: if the disk or the database refuses.
    """
    try:
        yield
    except storage_errors(UnwrittenError) as error:
        said = f"{place}: cannot be written ({what_it_said(error)})"
        raise ConfigError(f"{said}: {remedy_for(error)}{then}") from None
