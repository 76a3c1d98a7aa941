import errno
import fcntl
import json
import os
import queue
import re
import socket
import subprocess
import sys
import threading
import time
import uuid

import optuna
import pytest

from tinytl.errors import ConfigError
from tinytl.files import try_lock
from tuner.bucket.copies import READ, copy_at
from tuner.record import schema
from tuner.record.claim import (
    GONE_AFTER_S,
    LOCK_FILE,
    _Claim,
    finish_claimed,
    folder_claimed,
    is_empty,
    storage_claimed,
)
from tuner.record.storage import open_storage

HOLD = """
import sys, pathlib
from tuner.record.claim import folder_claimed
with folder_claimed(pathlib.Path(sys.argv[1]), "s"):
    print("claimed", flush=True)
    sys.stdin.read()
"""


def test_a_second_driver_is_refused_and_told_of_the_first_and_a_killed_one_leaves_no_trace(tmp_path):
    argv = [sys.executable, "-c", HOLD, str(tmp_path / "s")]
    holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "claimed\n"
        refused = f"study s is being run by process {holder.pid} on {socket.gethostname()}"
        with pytest.raises(ConfigError, match=refused), folder_claimed(tmp_path / "s", "s"):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with folder_claimed(tmp_path / "s", "s"):
        pass


def test_of_two_processes_one_makes_the_model_beside_a_driver(tmp_path):
    argv = [sys.executable, "-c", HOLD.replace("folder_claimed", "finish_claimed"), str(tmp_path / "s")]
    holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "claimed\n"
        refused = f"study s is being finished by process {holder.pid} on {socket.gethostname()}"
        with pytest.raises(ConfigError, match=refused), finish_claimed(tmp_path / "s", "s"):
            pass
        with folder_claimed(tmp_path / "s", "s"):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with finish_claimed(tmp_path / "s", "s"):
        pass


def test_in_a_bucket_too_one_makes_the_model_and_no_claim_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    copy = copy_at(f"memory://{uuid.uuid4().hex}/runs", READ)
    with finish_claimed(copy.root / "s", "s"):
        refused = rf"^study s is being finished by process {os.getpid()} on "
        with pytest.raises(ConfigError, match=refused), finish_claimed(copy.root / "s", "s"):
            pass
    assert copy.bucket.versions("s") == {}


def test_a_command_that_looks_at_the_moment_of_a_start_is_in_nobodys_way(tmp_path):
    (tmp_path / "s").mkdir()
    with (tmp_path / "s" / LOCK_FILE).open("a") as file:
        assert try_lock(file, shared=True)  # as `status` does
        looking = threading.Timer(0.2, file.close)
        looking.start()
        with folder_claimed(tmp_path / "s", "s"):
            assert not looking.is_alive() or file.closed
        looking.join()


@pytest.fixture
def study(tmp_path):
    return optuna.create_study(study_name="s", storage=open_storage(f"sqlite:///{tmp_path}/s.db", ""))


def claim(study, on_lost=None):
    return storage_claimed(study._storage._backend, study._study_id, "s", on_lost or pytest.fail)


def test_a_storage_shared_by_machines_names_the_driver_that_lives(study):
    with claim(study):
        assert study.user_attrs[schema.DRIVER]["pid"] == os.getpid()
    assert study.user_attrs[schema.DRIVER] == {}


def test_a_driver_that_lost_the_study_is_told(study, monkeypatch):
    monkeypatch.setattr("tuner.record.claim.SIGN_OF_LIFE_S", 0.01)
    other = {"host": "elsewhere", "pid": 1, "seen_s": time.time()}
    lost: queue.SimpleQueue[str] = queue.SimpleQueue()
    with claim(study, lost.put):
        row = _Claim(study._storage._backend, study._study_id)
        while not row.replace(row.read(), json.dumps(other)):
            pass
        assert "study s is being run by process 1 on elsewhere" in lost.get(timeout=30)
    assert study.user_attrs[schema.DRIVER] == other


def test_a_bug_in_what_takes_the_loss_in_shows_as_one(study, monkeypatch):
    monkeypatch.setattr("tuner.record.claim.SIGN_OF_LIFE_S", 0.01)
    raised: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda info: raised.put(info.exc_value))

    def broken(sentence):
        raise TypeError("a bug")

    with claim(study, broken):
        row = _Claim(study._storage._backend, study._study_id)
        while not row.replace(row.read(), json.dumps({"host": "elsewhere", "pid": 1, "seen_s": time.time()})):
            pass
        assert str(raised.get(timeout=30)) == "a bug"


@pytest.mark.parametrize("what", [[], ["driver.lock"], [".seen-by-1"], ["driver.lock", ".seen-by-1"]])
def test_what_a_killed_driver_leaves_does_not_take_the_name(tmp_path, what):
    (tmp_path / "s").mkdir()
    for name in what:
        (tmp_path / "s" / name).touch()
    assert is_empty(tmp_path / "s")
    with pytest.raises(KeyError), folder_claimed(tmp_path / "s", "s"):
        raise KeyError
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("seen", [None, "{}"])
def test_of_two_drivers_that_saw_no_other_one_gets_the_study(study, seen):
    claims = [_Claim(study._storage._backend, study._study_id) for _ in range(2)]
    if seen is not None:
        assert claims[0].replace(None, seen)
    assert [claim.read() for claim in claims] == [seen, seen]
    assert [claim.replace(seen, str(index)) for index, claim in enumerate(claims)] == [True, False]
    assert claims[1].read() == "0"


@pytest.mark.parametrize(
    ("host", "pid", "seen_s_ago", "lives"),
    [
        ("elsewhere", 1, 1.0, True),
        ("elsewhere", 1, GONE_AFTER_S + 1, False),
        (socket.gethostname(), 1, 1.0, True),  # process 1 is there for sure
        (socket.gethostname(), 1, GONE_AFTER_S + 1, False),  # but it is another's by now
        (socket.gethostname(), 2**22 + 1, 1.0, False),  # no process has such a number
    ],
)
def test_a_driver_is_gone_when_it_has_been_silent_or_its_process_is_not_there(
    study, host, pid, seen_s_ago, lives
):
    study.set_user_attr(schema.DRIVER, {"host": host, "pid": pid, "seen_s": time.time() - seen_s_ago})
    if lives:
        with pytest.raises(ConfigError, match=f"by process {pid} on {host}"), claim(study):
            pass
    else:
        with claim(study):
            pass


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "s").write_text("a file")
    with pytest.raises(ConfigError, match=r"s/driver\.lock cannot be written \(File exists\)$"):
        folder_claimed(tmp_path / "s", "s").__enter__()


@pytest.mark.parametrize(
    ("module", "call", "number", "said"),
    [
        ("os", "write", errno.ENOSPC, "cannot be written (No space left on device): make room"),
        (
            "fcntl",
            "flock",
            errno.ENOLCK,
            "cannot be locked (No locks available), so two processes could write",
        ),
    ],
)
def test_what_a_file_system_refuses_is_told_and_nothing_stays(
    tmp_path, monkeypatch, module, call, number, said
):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr({"os": os, "fcntl": fcntl}[module], call, refuse)
    with pytest.raises(ConfigError, match=re.escape(f"s/driver.lock {said}")):
        folder_claimed(tmp_path / "s", "s").__enter__()
    assert not (tmp_path / "s").exists()
