"""One driver a study: a lock on its folder, and a sign of life in a storage that other machines share."""

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage

from tinytl.errors import ConfigError

LOCK_FILE = "driver.lock"
SIGN_OF_LIFE_S = 5.0
"""How often a driver says that it lives."""
GONE_AFTER_S = 30.0
"""A driver of another machine that has said nothing for so long is gone."""
DRIVER = "driver"
"""The study's user attribute with host, process and last sign of life of its driver."""


@contextmanager
def folder_claimed(folder: Path, name: str) -> Iterator[None]:
    """Keeps other drivers out of a study's folder; the lock ends with the process, however it ends.

    Raises:
        ConfigError: naming the driver that has it, or where the folder cannot be written.
    """
    path = folder / LOCK_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise ConfigError(f"study {name}: {path} cannot be written ({error.strerror})") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise _taken(name, json.loads(file.read() or "{}")) from None
        file.truncate(0)
        json.dump(_me(), file)
        file.flush()
        try:
            yield
        except BaseException:
            # What ends before anything was written leaves nothing behind.
            if is_empty(folder):
                path.unlink()
                folder.rmdir()
            raise


@contextmanager
def storage_claimed(storage: BaseStorage, study_id: int, name: str) -> Iterator[None]:
    """Keeps drivers of other machines and folders off a study in a shared storage.

    Raises:
        ConfigError: naming the driver that has it.
    """
    holder = storage.get_study_user_attrs(study_id).get(DRIVER, {})
    if holder and _lives(holder):
        raise _taken(name, holder)
    ended = threading.Event()

    def say_so() -> None:
        while not ended.wait(SIGN_OF_LIFE_S):
            with suppress(Exception):  # a database that is away for a while: the next sign may arrive
                storage.set_study_user_attr(study_id, DRIVER, _me())
        with suppress(Exception):
            storage.set_study_user_attr(study_id, DRIVER, {})

    storage.set_study_user_attr(study_id, DRIVER, _me())
    thread = threading.Thread(target=say_so, name="sign of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def is_empty(folder: Path) -> bool:
    """Whether a study's folder is not there, or holds nothing but the lock of a driver that was killed."""
    return not folder.exists() or [entry.name for entry in folder.iterdir()] == [LOCK_FILE]


def holder_of(folder: Path, attributes: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the driver that runs a study, by its folder's lock or the sign of life in its attributes."""
    path = folder / LOCK_FILE
    if path.is_file():
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return dict(json.loads(file.read() or "{}"))
    holder = attributes.get(DRIVER, {})
    return dict(holder) if holder and _lives(holder) else None


def check_free(folder: Path, attributes: Mapping[str, Any], name: str) -> None:
    """Raises ConfigError, naming the driver, where one runs the study."""
    holder = holder_of(folder, attributes)
    if holder is not None:
        raise _taken(name, holder)


def _me() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "seen_s": time.time()}


def _lives(holder: dict[str, Any]) -> bool:
    if holder["host"] == socket.gethostname() and not Path(f"/proc/{holder['pid']}").exists():
        return False
    return bool(time.time() - holder["seen_s"] < GONE_AFTER_S)


def _taken(name: str, holder: dict[str, Any]) -> ConfigError:
    who = f"process {holder['pid']} on {holder['host']}" if holder else "another process"
    return ConfigError(f"study {name} is being run by {who}: wait for its end, or stop it with Ctrl-C there")
