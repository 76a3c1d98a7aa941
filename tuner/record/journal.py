"""Optuna's journal as a file of ours: a line is there whole or not at all, however its writer ends.

Optuna's own backend locks by a link to the path as it was given; a writer that is killed leaves the link, and
with a relative path every later reader waits for ever (optuna 5.0). A `flock` ends with its process.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from optuna.storages.journal import BaseJournalBackend

from tinytl.errors import ConfigError
from tinytl.files import lock
from tuner.bucket.copies import copy_of, named
from tuner.next_commands import tuner_command, where_flags

JOURNAL = "optuna.journal"
"""Name of the file in a runs folder."""
CREATE_STUDY, CREATE_TRIAL = 0, 4
"""Records that give numbers to what comes after them."""
NEEDED: Mapping[int, tuple[str, ...]] = {
    CREATE_STUDY: ("study_name", "directions"),
    1: ("study_id",),
    2: ("study_id", "user_attr"),
    3: ("study_id", "system_attr"),
    CREATE_TRIAL: ("study_id", "datetime_start"),
    5: ("trial_id", "param_name", "param_value_internal", "distribution"),
    6: ("trial_id", "state", "values"),
    7: ("trial_id", "step", "intermediate_value"),
    8: ("trial_id", "user_attr"),
    9: ("trial_id", "system_attr"),
    10: (),
}
"""What Optuna reads of a record, by its `op_code`."""
_BEGINS = b'{"op_code":'
_CHUNK = 1 << 16


def journal_of(runs_dir: str | Path, study: str) -> Path:
    """Returns the journal in which a study is: that of the runs folder, or, in a bucket, its own.

    An object is written whole: if two drivers had the same one, each would remove what the other wrote.
    """
    folder = Path(runs_dir)
    return (folder if copy_of(folder) is None else folder / study) / JOURNAL


class DamagedJournalError(ConfigError):
    """A line in the middle of a journal is no record."""


class JournalFile(BaseJournalBackend):
    """A file with a record of Optuna's on each line. Made if it is missing.

    Raises:
        OSError: if it cannot be read, written or locked; what was there stays whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()  # a process may change its folder
        with self.path.open("ab"):
            pass
        self._known = (0, 0)
        """A record's number, and where in the file it begins."""

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yields the records from a number on; a line that is not yet whole is left for later.

        Raises:
            DamagedJournalError: for a line that holds no record.
        """
        number, place = self._known if self._known[0] <= log_number_from else (0, 0)
        with self.path.open("rb") as file:
            file.seek(place)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                record = record_of(line)
                if record is None:
                    raise DamagedJournalError(self._damage(number + 1))
                number, place = number + 1, place + len(line)
                self._known = (number, place)
                if number > log_number_from:
                    yield record

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Adds records after the last whole line, and waits until the disk has them."""
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with self.path.open("r+b") as file:
            lock(file)
            end = end_of_whole_lines(file)
            file.truncate(end)
            try:
                file.seek(end)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                with suppress(OSError):
                    os.truncate(file.fileno(), end)
                raise

    def _damage(self, line: int) -> str:
        copy = copy_of(self.path)
        runs_dir = self.path.parent if copy is None else copy.root
        command = tuner_command("repair", where=where_flags(str(runs_dir)))
        return f"{named(self.path)}: line {line} is no record of a study: `{command}` keeps all that is whole"


def record_of(line: bytes) -> dict[str, Any] | None:
    """Returns the record on a line, or the whole one behind half of another; None if there is none.

    Half a record is what a full disk or a kill left: nobody was told that it was written.
    """
    start = 0
    while start >= 0:
        with suppress(ValueError, KeyError, TypeError, RecursionError):  # of the encoding, too
            record = json.loads(line[start:])
            if isinstance(record, dict) and record.keys() >= {"worker_id", *NEEDED[record["op_code"]]}:
                return record
        start = line.find(_BEGINS, start + 1)
    return None


def end_of_whole_lines(file: BinaryIO) -> int:
    """Returns the place behind the last line end of a file."""
    place = file.seek(0, os.SEEK_END)
    while place > 0:
        begin = max(0, place - _CHUNK)
        file.seek(begin)
        found = file.read(place - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        place = begin
    return 0


def lines_of(content: bytes) -> list[bytes]:
    """Returns the whole lines of a journal, each with its end."""
    return [line + b"\n" for line in content[: content.rfind(b"\n") + 1].split(b"\n")[:-1]]
