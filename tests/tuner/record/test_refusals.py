import errno
import os

import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError

from tinytl.errors import ConfigError
from tuner.record.refusals import UnwrittenError, remedy_for, told_in_one_line, what_it_said


def chained(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "make room"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "make room"),
        (
            chained(
                StorageInternalError("An exception is raised during the commit."),
                OperationalError("UPDATE", {}, Exception("database or disk is full")),
            ),
            "make room",
        ),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES)), "allow writing there"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS)), "allow writing there"),
        (ConnectionError("the server has gone away"), "bring the disk or the database back"),
        (OperationalError("SELECT", {}, Exception("closed")), "bring the disk or the database back"),
    ],
)
def test_room_is_asked_for_only_if_the_disk_is_full(error, remedy):
    assert remedy_for(error) == remedy


def test_what_the_database_said_is_told_and_not_what_was_handled_when_it_did():
    try:
        try:
            raise KeyError("study exists")
        except KeyError:
            raise OperationalError(
                "INSERT", {}, Exception("permission denied for table studies\nLINE 1")
            ) from None
    except OperationalError as error:
        refused = chained(StorageInternalError("invalid data"), error)
    assert what_it_said(refused) == "permission denied for table studies"
    with pytest.raises(
        ConfigError, match=r"^--storage x: cannot be written \(permission .* studies\): allow writing there$"
    ):
        with told_in_one_line("--storage x"):
            raise refused
    full = chained(UnwrittenError("its record ..."), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(
        ConfigError, match=r"^runs: cannot .* \(No space left on device\): make room, then resume$"
    ):
        with told_in_one_line("runs", ", then resume"):
            raise full


@pytest.mark.parametrize("bug", [TypeError, KeyError, ValueError])
def test_a_bug_is_no_refusal(bug):
    with pytest.raises(bug, match="mine"), told_in_one_line("runs"):
        raise bug("mine")
