"""One driver per study: a lock on its folder, and a sign of life in a storage that other machines share.

`tuner finish` has a lock of its own: of two processes, one makes the model.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from optuna.storages import RDBStorage

from tinytl.errors import ConfigError
from tinytl.files import naming_the_file, try_lock
from tuner.bucket import claims
from tuner.bucket.copies import copy_of
from tuner.bucket.store import Bucket, told
from tuner.record import schema

LOCK_FILE = "driver.lock"
FINISH_LOCK_FILE = "finish.lock"
"""In a study's folder: held by the process that makes its model."""
SEEN_BY = ".seen-by-"
"""Prefix of the files by which a node shows that it can write to a study's folder."""
SIGN_OF_LIFE_S = 5.0
"""How often a driver writes that it is alive."""
LOOKS_S = 1.0
"""A lock that is held longer is a driver's."""
IN_BUCKET, FINISH_IN_BUCKET = "driver", "finish"
"""Names of the claims in a study's folder of a bucket: of its driver, and of the process that makes its
model."""
GONE_AFTER_S = 30.0
"""A driver on another machine counts as gone once it has written nothing for this long."""


@contextmanager
def folder_claimed(folder: Path, name: str) -> Iterator[None]:
    """Keeps other drivers out of a study's folder; the lock ends with the process, however it ends.

    In a bucket the claim of a process that was killed ends after half a minute (see `tuner.bucket.claims`).

    Raises:
        ConfigError: naming the driver that has it, or if the folder cannot be written.
    """
    copy = copy_of(folder)
    if copy is not None:
        with bucket_claimed(copy.bucket, name):
            yield
        return
    with _locked(folder, LOCK_FILE, lambda holder: _taken(name, holder)):
        yield


@contextmanager
def finish_claimed(folder: Path, name: str) -> Iterator[Callable[[], None]]:
    """Keeps other processes from making, logging or removing a study's model; ends as `folder_claimed`.

    Yields what is to be called before each write: it raises if the claim in a bucket is lost, so that the
    block ends with a ConfigError. A lock on a folder is never lost.

    Raises:
        ConfigError: naming the process that has it, or if the folder cannot be written.
    """
    copy = copy_of(folder)
    if copy is None:
        with _locked(folder, FINISH_LOCK_FILE, lambda holder: _being_finished(name, holder)):
            yield lambda: None
        return
    try:
        with _claimed(copy.bucket, name, FINISH_IN_BUCKET) as claim:
            yield claim.check
    except claims.TakenError as taken:
        raise _being_finished(name, taken.holder) from None


@contextmanager
def bucket_claimed(bucket: Bucket, name: str) -> Iterator[claims.Claim]:
    """Keeps other drivers off a study in a bucket; leaves nothing of a study of which nothing was written.

    Raises:
        ConfigError: naming the driver that has it, or if the bucket refuses or does not answer.
    """
    try:
        with _claimed(bucket, name, IN_BUCKET) as claim:
            yield claim
    except claims.TakenError as taken:
        raise _taken(name, taken.holder) from None


@contextmanager
def _claimed(bucket: Bucket, name: str, claim_name: str) -> Iterator[claims.Claim]:
    with told(f"--runs-dir {bucket.address}"), claims.claimed(bucket, f"{name}/{claim_name}") as claim:
        try:
            yield claim
        finally:
            with suppress(OSError):
                if all(claims.is_claim(key) for key in bucket.versions(name)):
                    claim.withdraw()


@contextmanager
def _locked(folder: Path, lock_file: str, taken: Callable[[dict[str, Any]], ConfigError]) -> Iterator[None]:
    """Holds a lock file of a study's folder, which says who holds it. `taken` makes the error from that."""
    path = folder / lock_file
    with naming_the_file(path):
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    with file:
        with _leaving_no_empty(folder):  # a file system may have no locks
            free = _locked_soon(file)
        if not free:
            file.seek(0)
            raise taken(json.loads(file.read() or "{}"))
        with _leaving_no_empty(folder):
            with naming_the_file(path):
                file.truncate(0)
                os.write(file.fileno(), json.dumps(_me()).encode())  # nothing waits in a buffer for the close
            yield


@contextmanager
def _leaving_no_empty(folder: Path) -> Iterator[None]:
    """Removes a study's folder if the block fails before anything was written there."""
    try:
        yield
    except BaseException:
        if is_empty(folder):
            for entry in folder.iterdir():
                entry.unlink()
            folder.rmdir()
        raise


@contextmanager
def storage_claimed(
    storage: RDBStorage, study_id: int, name: str, on_lost: Callable[[str], None]
) -> Iterator[None]:
    """Keeps drivers of other machines and folders off a study in a shared storage.

    `on_lost` is called, from another thread, if another driver has it in spite of that, because this one was
    silent for too long.

    Raises:
        ConfigError: naming the driver that has it.
    """
    from sqlalchemy.exc import SQLAlchemyError  # needs half a second, which a study with a journal saves

    claim = _Claim(storage, study_id)
    seen = claim.read()
    holder = json.loads(seen or "{}")
    if holder and _lives(holder):
        raise _taken(name, holder)
    mine = json.dumps(_me())
    if not claim.replace(seen, mine):  # another driver was quicker
        raise _taken(name, json.loads(claim.read() or "{}"))
    ended = threading.Event()

    def say_so() -> None:
        said = mine
        while not ended.wait(SIGN_OF_LIFE_S):
            try:
                sign = json.dumps(_me())
                if claim.replace(said, sign):
                    said = sign
                    continue
                now = claim.read() or "{}"
            except SQLAlchemyError:  # the database is away for a while: the next sign may arrive
                continue
            if _is_mine(json.loads(now)):  # it arrived, though its answer did not
                said = now
            else:
                on_lost(str(_taken(name, json.loads(now))))
                return
        with suppress(SQLAlchemyError):
            claim.replace(said, "{}")

    thread = threading.Thread(target=say_so, name="sign of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class _Claim:
    """The study's attribute schema.DRIVER in a database, changed only if it is still what was seen there.

    Optuna's own calls would overwrite what another driver wrote in between.
    """

    def __init__(self, storage: RDBStorage, study_id: int) -> None:
        self.engine = storage.engine
        self.where = {"study": study_id, "key": schema.DRIVER}

    def read(self) -> str | None:
        """Returns the attribute's text, None if it was never written."""
        from sqlalchemy import text

        query = "SELECT value_json FROM study_user_attributes WHERE study_id = :study AND key = :key"
        with self.engine.connect() as connection:
            return connection.execute(text(query), self.where).scalar()

    def replace(self, seen: str | None, new: str) -> bool:
        """Writes `new` if the attribute is `seen`; returns whether it was."""
        from sqlalchemy import text
        from sqlalchemy.exc import IntegrityError

        if seen is None:
            change = (
                "INSERT INTO study_user_attributes (study_id, key, value_json) VALUES (:study, :key, :new)"
            )
        else:
            change = (
                "UPDATE study_user_attributes SET value_json = :new "
                "WHERE study_id = :study AND key = :key AND value_json = :seen"
            )
        try:
            with self.engine.begin() as connection:
                return connection.execute(text(change), self.where | {"seen": seen, "new": new}).rowcount == 1
        except IntegrityError:  # a study has one row per key
            return False


def _locked_soon(file: IO[str]) -> bool:
    """Locks a file, or returns False: commands that look whether a driver lives hold it for a moment."""
    deadline = time.monotonic() + LOOKS_S
    while not try_lock(file):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_empty(folder: Path) -> bool:
    """Whether a study's folder is not there, or holds nothing but what a killed driver left behind."""
    return not folder.exists() or all(
        entry.name in (LOCK_FILE, FINISH_LOCK_FILE) or entry.name.startswith(SEEN_BY)
        for entry in folder.iterdir()
    )


def holder_of(folder: Path, attributes: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the driver that runs a study, by its folder's lock or the sign of life in its attributes."""
    copy = copy_of(folder)
    if copy is not None:
        with told(f"--runs-dir {copy.bucket.address}"):
            found = claims.holder_of(copy.bucket, f"{copy.key_of(folder.resolve())}/{IN_BUCKET}")
        if found is not None:
            return found
    # A driver that ends may remove the file at any moment.
    with suppress(FileNotFoundError, NotADirectoryError), (folder / LOCK_FILE).open() as file:
        if not try_lock(file, shared=True):
            return dict(json.loads(file.read() or "{}"))
    holder = attributes.get(schema.DRIVER, {})
    return dict(holder) if holder and _lives(holder) else None


def check_free(folder: Path, attributes: Mapping[str, Any], name: str) -> None:
    """Raises ConfigError, naming the driver, if one runs the study."""
    holder = holder_of(folder, attributes)
    if holder is not None:
        raise _taken(name, holder)


def _me() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "seen_s": time.time()}


def _is_mine(holder: dict[str, Any]) -> bool:
    me = _me()
    return all(holder.get(key) == me[key] for key in ("host", "pid"))


def _lives(holder: dict[str, Any]) -> bool:
    if holder["host"] == socket.gethostname() and not Path(f"/proc/{holder['pid']}").exists():
        return False
    return bool(time.time() - holder["seen_s"] < GONE_AFTER_S)


def _taken(name: str, holder: dict[str, Any]) -> ConfigError:
    return ConfigError(
        f"study {name} is being run by {_who(holder)}: wait for its end, or stop it with Ctrl-C there"
    )


def _being_finished(name: str, holder: dict[str, Any]) -> ConfigError:
    return ConfigError(
        f"study {name} is being finished by {_who(holder)}: wait for its end, or stop it with Ctrl-C there"
    )


def _who(holder: dict[str, Any]) -> str:
    return f"process {holder['pid']} on {holder['host']}" if holder else "another process"
