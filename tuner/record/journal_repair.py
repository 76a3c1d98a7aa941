"""Brings a journal back in which lines are damaged: all that is whole stays, with the numbers that it had."""

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tinytl.errors import ConfigError
from tinytl.files import try_lock, written_whole
from tuner.bucket.copies import copy_of, named, send
from tuner.record import schema
from tuner.record.claim import LOCK_FILE, folder_claimed
from tuner.record.journal import CREATE_STUDY, CREATE_TRIAL, JOURNAL, lines_of, record_of

KEPT_AS = ".damaged"
"""Ending of the copy that is kept of a damaged journal; a number follows if there is one already."""
_FAILED = 3
_MAXIMIZE, _MINIMIZE = 2, 1


def repair_all(runs_dir: str) -> Iterator[str]:
    """Repairs the journal of a folder, or, in a bucket, that of each study; yields what `repair` says.

    Raises:
        ConfigError: as `repair` does, or if the bucket refuses or does not answer.
    """
    folder = Path(runs_dir)
    if copy_of(folder) is None:
        yield from repair(folder)
        return
    journals = sorted(folder.glob(f"*/{JOURNAL}"))
    if not journals:
        raise ConfigError(f"no studies under {named(folder)} (no file {JOURNAL}): give --runs-dir")
    for journal in journals:
        with folder_claimed(journal.parent, journal.parent.name):
            before = set(journal.parent.iterdir())
            told = repair(journal.parent)
            for new in sorted(set(journal.parent.iterdir()) - before):
                send(new)
                send(journal)
            yield from told


def repair(runs_dir: Path) -> list[str]:
    """Repairs `runs_dir/optuna.journal`; returns a line for each damaged line, and one for the whole.

    Optuna numbers studies and trials in the order of their records. So a damaged record that began one is
    replaced by one that begins it anew, without what cannot be read; any other is left out.

    Raises:
        ConfigError: if there is no journal, it cannot be written, or a study of the folder runs.
    """
    journal = runs_dir / JOURNAL
    if not journal.is_file():
        raise ConfigError(f"no studies under {runs_dir} (no file {JOURNAL}): give --runs-dir")
    _check_nothing_runs(runs_dir)
    content = journal.read_bytes()
    lines = lines_of(content)
    torn = len(content) - sum(map(len, lines))
    records = [record_of(line) for line in lines]
    if None not in records:
        rest = "" if not torn else " but half a line at the end, which the next record replaces"
        return [f"{named(journal)}: all {len(lines)} lines are whole{rest}"]
    kept: list[bytes] = []
    told: list[str] = []
    for number, (line, record) in enumerate(zip(lines, records, strict=True), 1):
        if record is not None:
            kept.append(line)
            continue
        instead, text = _replacement(line, number, kept, records[number:])
        kept += [] if instead is None else [json.dumps(instead, separators=(",", ":")).encode() + b"\n"]
        told.append(f"line {number}: {text}")
    copy = _free_name(journal)
    shutil.copyfile(journal, copy)
    with written_whole(journal) as out:
        out.writelines(kept)
    whole = sum(record is not None for record in records)
    return [*told, f"{named(journal)}: {whole} whole lines are kept; as it was: {named(copy)}"]


def _replacement(
    line: bytes, number: int, before: Sequence[bytes], after: Sequence[dict[str, Any] | None]
) -> tuple[dict[str, Any] | None, str]:
    """Returns the record that stands for a damaged line, if one must, and what to say about it."""
    read = [record for record in map(record_of, before) if record is not None]
    n_trials = sum(record["op_code"] == CREATE_TRIAL for record in read)
    code = _number(rb'"op_code":(\d+)', line)
    if code is None and _begins_a_trial(n_trials, after):
        code = CREATE_TRIAL
    if code == CREATE_STUDY:
        found = re.search(rb'"study_name":"([^"\\]+)"', line)
        name = found[1].decode(errors="replace") if found else f"damaged-{number}"
        given = re.search(rb'"directions":\[([12](?:,[12])*)\]', line)
        directions = [_MAXIMIZE, _MINIMIZE] if given is None else [int(d) for d in given[1].split(b",")]
        record = {"op_code": CREATE_STUDY, "worker_id": "repair", "study_name": name}
        return record | {"directions": directions}, f"it began study {name}"
    if code == CREATE_TRIAL:
        study = _number(rb'"study_id":(\d+)', line)
        study = _last_study(read) if study is None else study
        attributes = {schema.INTERRUPTED: True, schema.DROPPED: "its record was damaged"}
        record = {"op_code": CREATE_TRIAL, "worker_id": "repair", "study_id": study, "datetime_start": None}
        return record | {"state": _FAILED, "user_attrs": attributes}, "it began a trial, which is left out"
    return None, "it said something of a study or a trial, which is left out"


def _begins_a_trial(known: int, after: Sequence[dict[str, Any] | None]) -> bool:
    """Whether what follows speaks of a trial that no record before has begun."""
    for record in after:
        if record is None or record["op_code"] == CREATE_TRIAL:
            return False
        if record.get("trial_id", -1) >= known:
            return True
    return False


def _last_study(read: Sequence[dict[str, Any]]) -> int:
    """Returns the number of the study that the last records are about."""
    for place in reversed(range(len(read))):
        if read[place]["op_code"] == CREATE_STUDY:
            return sum(record["op_code"] == CREATE_STUDY for record in read[:place])
        if "study_id" in read[place]:
            return int(read[place]["study_id"])
    return 0


def _number(pattern: bytes, line: bytes) -> int | None:
    found = re.search(pattern, line)
    return int(found[1]) if found else None


def _check_nothing_runs(runs_dir: Path) -> None:
    for path in sorted(runs_dir.glob(f"*/{LOCK_FILE}")):
        with path.open("a") as file:
            if not try_lock(file):
                raise ConfigError(f"study {path.parent.name} runs: stop it first")


def _free_name(journal: Path) -> Path:
    names = (journal.with_name(f"{JOURNAL}{KEPT_AS}{n or ''}") for n in range(1000))
    return next(path for path in names if not path.exists())
