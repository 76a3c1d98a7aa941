import json
import os
import random
import signal
import time
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage

from tuner.record import journal as journal_module
from tuner.record.journal import JOURNAL, DamagedJournalError, JournalFile, end_of_whole_lines, record_of


def record(value: int) -> dict:
    return {"op_code": 2, "worker_id": "w", "study_id": 0, "user_attr": {"value": value}}


def values(journal: JournalFile, first: int = 0) -> list[int]:
    return [log["user_attr"]["value"] for log in journal.read_logs(first)]


@pytest.fixture
def journal(tmp_path):
    return JournalFile(tmp_path / JOURNAL)


def test_what_is_appended_is_read_from_any_number_on(journal):
    journal.append_logs([record(0), record(1)])
    assert values(journal) == [0, 1]
    journal.append_logs([record(2)])
    assert [values(journal, first) for first in (2, 0, 1, 3)] == [[2], [0, 1, 2], [1, 2], []]
    other = JournalFile(journal.path)
    other.append_logs([record(3)])
    assert values(journal, 3) == [3] and values(other) == [0, 1, 2, 3]


def test_optuna_keeps_a_study_in_it(journal):
    study = optuna.create_study(storage=JournalStorage(journal), study_name="s")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), 3)
    again = optuna.load_study(storage=JournalStorage(JournalFile(journal.path)), study_name="s")
    assert [t.params for t in again.trials] == [t.params for t in study.trials]


def test_a_process_may_change_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    journal = JournalFile(Path(JOURNAL))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    journal.append_logs([record(0)])
    assert values(journal) == [0] and not list((tmp_path / "elsewhere").iterdir())


def test_a_journal_that_was_removed_is_not_made_anew_by_what_is_appended(journal):
    journal.append_logs([record(0)])
    journal.path.unlink()
    with pytest.raises(FileNotFoundError):
        journal.append_logs([record(1)])
    assert not journal.path.exists()


def test_half_a_line_at_the_end_is_left_for_later_and_then_replaced(journal):
    journal.append_logs([record(0)])
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole + whole[:-9])
    assert values(journal) == [0]
    journal.append_logs([record(1)])
    assert values(journal) == values(JournalFile(journal.path)) == [0, 1]


def test_a_write_that_fails_leaves_what_was_there(journal, monkeypatch):
    journal.append_logs([record(0)])
    before = journal.path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal_module.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        journal.append_logs([record(1)] * 100)
    assert journal.path.read_bytes() == before


@pytest.mark.slow  # a hundred processes
def test_a_hundred_writers_killed_inside_an_append_stop_nobody(journal):
    """Each is killed at a random moment, most of them while they hold the lock."""
    rng, told = random.Random(0), []
    for number in range(100):
        written, child = os.pipe(), os.fork()
        if child == 0:
            for count in range(1000):
                journal.append_logs([record(1000 * number + count)] * 5)
                os.write(written[1], b".")
            os._exit(0)
        os.close(written[1])
        assert os.read(written[0], 1) == b"."
        time.sleep(rng.random() / 500)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        confirmed = 1 + len(os.read(written[0], 1000))
        os.close(written[0])
        told += [1000 * number + count for count in range(confirmed)]
        journal.append_logs([record(-1)])
    found = values(JournalFile(journal.path))
    assert found.count(-1) == 100
    assert all(found.count(value) == 5 for value in told), "what was confirmed is there, and once"
    assert all(record_of(line) for line in journal.path.read_bytes().split(b"\n")[:-1])


def test_a_lock_that_another_version_left_is_in_nobodys_way(tmp_path):
    (tmp_path / f"{JOURNAL}.lock").symlink_to("nowhere/at/all")
    journal = JournalFile(tmp_path / JOURNAL)
    journal.append_logs([record(0)])
    assert values(journal) == [0]


WHOLE = json.dumps(record(7), separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (WHOLE, True),
        (WHOLE[:31] + WHOLE, True),  # half a record, and the next one
        (b"\x00\xff" + WHOLE, True),
        (WHOLE[:-1], False),
        (WHOLE.replace(b"study_id", b"study\x00id"), False),
        (b"[]", False),
        (b'"op_code"', False),
        (b'{"op_code":99,"worker_id":"w"}', False),
        (b'{"op_code":4,"worker_id":"w"}', False),
        (b'{"op_code":{},"worker_id":"w"}', False),
        (b"[" * 100_000, False),
        (b"", False),
    ],
)
def test_a_line_holds_a_record_or_none(line, found):
    assert record_of(line) == (record(7) if found else None)


def test_a_damaged_line_is_named_with_its_number_and_the_way_out(journal):
    journal.append_logs([record(0), record(1), record(2)])
    lines = journal.path.read_bytes().split(b"\n")
    lines[1] = lines[1].replace(b":", b";")
    journal.path.write_bytes(b"\n".join(lines))
    read = JournalFile(journal.path).read_logs(0)
    assert next(read) == record(0)
    with pytest.raises(DamagedJournalError) as caught:
        next(read)
    assert str(caught.value).startswith(
        f"{journal.path}: line 2 is no record of a study: `python -m tuner repair"
    )


@pytest.mark.parametrize("length", [0, 1, 70_000, 65_536])
def test_the_end_of_whole_lines_is_found_however_long_the_rest(tmp_path, length):
    (tmp_path / "f").write_bytes(b"one\ntwo\n" + b"x" * length)
    with (tmp_path / "f").open("rb") as file:
        assert end_of_whole_lines(file) == 8
    (tmp_path / "f").write_bytes(b"x" * length)
    with (tmp_path / "f").open("rb") as file:
        assert end_of_whole_lines(file) == 0
