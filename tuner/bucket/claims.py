"""One holder of a name in a bucket: a claim that ends with its release, or once its holder is silent.

A claim is an object with a number, NAME.claim/000001, and only the process that made it writes it again. The
highest number holds the name. A new holder makes the next number, if nobody has: of several, one does. So no
step needs more of a bucket than to make an object that is not there.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuner.bucket.store import Bucket, BucketError

SIGN_OF_LIFE_S = 5.0
"""How often a holder writes that it is alive."""
GONE_AFTER_S = 30.0
"""A holder on another machine counts as gone after so long a silence, by the bucket's clock."""
STOPS_BEFORE_S = 5.0
"""So much earlier a holder that was silent asks whether it still holds, before it writes anything else."""
_POLL_S = 1.0
_FOLDER = ".claim"
_RELEASED = "released"
_WHO = ("host", "pid", "machine")


class TakenError(Exception):
    """Another process holds the name."""

    def __init__(self, holder: dict[str, Any]) -> None:
        super().__init__(holder)
        self.holder = holder

    def __str__(self) -> str:
        return f"process {self.holder.get('pid')} on {self.holder.get('host')}"


class ClaimLostError(BucketError):
    """Another process took the name over, because this one was silent for too long."""


def is_claim(key: str) -> bool:
    """Whether an object is of a claim."""
    return f"{_FOLDER}/" in key


@contextmanager
def claimed(bucket: Bucket, name: str, wait_s: float = 0.0) -> Iterator["Claim"]:
    """Holds `name` for the block; waits `wait_s` seconds for another holder's end.

    Raises:
        TakenError: if another process holds it.
        BucketError: if the bucket refuses or does not answer.
    """
    claim = _taken(bucket, name, wait_s)
    ended = threading.Event()

    def show_life() -> None:
        while not ended.wait(SIGN_OF_LIFE_S):
            try:
                claim.renew()
            except ClaimLostError:
                return
            except BucketError:  # the next sign may arrive
                continue

    thread = threading.Thread(target=show_life, name="claim", daemon=True)
    thread.start()
    try:
        yield claim
    finally:
        ended.set()
        thread.join()
        with suppress(BucketError):
            claim.release()


def holder_of(bucket: Bucket, name: str) -> dict[str, Any] | None:
    """Returns who holds a name, with its `host` and `pid`; None if nobody does. Writes nothing.

    So the age of a sign is judged by this machine's clock, which may be a little wrong.
    """
    found = _newest(bucket, name)
    if found is None:
        return None
    key, holder = found
    lives = _lives(bucket, key, holder, lambda: datetime.now(UTC))
    return {name: holder[name] for name in _WHO} if lives else None


def is_here(holder: Mapping[str, Any]) -> bool:
    """Whether a holder's process can be seen from here, so that its number is that of a process."""
    return bool(holder["machine"] == _machine())


@dataclass
class Claim:
    """A name that this process holds."""

    bucket: Bucket
    name: str
    number: int
    me: dict[str, Any]

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._lost = False
        self._seen_s = _clock_s()
        """When the last sign that arrived was sent."""

    @property
    def token(self) -> str:
        """What no other claim has, in letters and digits."""
        return str(self.me["token"])

    @property
    def key(self) -> str:
        """The object that only this process writes."""
        return _key(self.name, self.number)

    def check(self) -> None:
        """Raises ClaimLostError if another process holds the name: to be called before each write."""
        if self._lost:
            raise self._loss()
        if _clock_s() - self._seen_s > GONE_AFTER_S - STOPS_BEFORE_S:
            self.renew()

    def renew(self) -> None:
        """Writes a sign of life.

        Raises:
            ClaimLostError: if another process holds the name.
            BucketError: if the bucket refuses or does not answer.
        """
        with self._lock:
            began_s = _clock_s()
            if self._lost or any(number > self.number for number in _numbers(self.bucket, self.name)):
                self._lost = True
                raise self._loss()
            self.bucket.write(self.key, _text(self.me))
            self._seen_s = began_s

    def release(self) -> None:
        """Writes that nobody holds the name; one that was lost is left alone."""
        with self._lock:
            if not self._lost:
                self.bucket.write(self.key, _text(self.me | {_RELEASED: True}))
                self._lost = True

    def withdraw(self) -> None:
        """Removes every trace of the claim: for a name under which nothing was written."""
        with self._lock:
            if not self._lost:
                self.bucket.remove([self.key])
                self._lost = True

    def _loss(self) -> ClaimLostError:
        return ClaimLostError(
            f"{self.bucket.named(self.name)}: another process has taken over, because this one was silent "
            f"for {GONE_AFTER_S:g} s",
            remedy="see that the other has ended",
        )


def _taken(bucket: Bucket, name: str, wait_s: float) -> Claim:
    deadline = time.monotonic() + wait_s
    me = _me()
    while True:
        found = _newest(bucket, name)
        number = 0
        if found is not None:
            key, holder = found
            number = _number(key)
            if _lives(bucket, key, holder, lambda: bucket.now(f"{name}{_FOLDER}")):
                if time.monotonic() >= deadline:
                    raise TakenError(holder)
                time.sleep(_POLL_S)
                continue
        claim = Claim(bucket, name, number + 1, me)
        if bucket.create(claim.key, _text(me)):
            others = [other for other in _numbers(bucket, name) if other != claim.number]
            if max(others, default=0) < claim.number:
                bucket.remove(_key(name, other) for other in others)
                return claim
            claim.withdraw()  # others held it and went on, and have removed that number, since we looked


def _newest(bucket: Bucket, name: str) -> tuple[str, dict[str, Any]] | None:
    """Returns the claim with the highest number, and who made it."""
    while numbers := _numbers(bucket, name):
        key = _key(name, max(numbers))
        content = bucket.read(key)
        if content is not None:  # else a newer holder has just removed it
            return key, json.loads(content)
    return None


def _lives(bucket: Bucket, key: str, holder: dict[str, Any], now: Any) -> bool:
    if holder.get(_RELEASED):
        return False
    if is_here(holder):  # its number may be that of another process by now
        return _began(holder["pid"]) == holder["began"]
    written = bucket.written_at(key)
    return written is not None and (now() - written).total_seconds() < GONE_AFTER_S


def _numbers(bucket: Bucket, name: str) -> list[int]:
    return [_number(key) for key in bucket.versions(f"{name}{_FOLDER}") if _leaf(key).isdigit()]


def _number(key: str) -> int:
    return int(_leaf(key))


def _leaf(key: str) -> str:
    return key.rpartition("/")[2]


def _key(name: str, number: int) -> str:
    return f"{name}{_FOLDER}/{number:06d}"


def _text(holder: dict[str, Any]) -> bytes:
    return json.dumps(holder | {"seen_s": time.time()}).encode()


def _me() -> dict[str, Any]:
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "began": _began(pid),
        "machine": _machine(),
        "token": uuid.uuid4().hex,
    }


def _clock_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # which runs on while the machine sleeps


def _machine() -> str:
    """Returns a text that two processes share if each can see whether the other lives.

    Not the host's name: two containers may have the same.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {Path('/proc/self/ns/pid').stat().st_ino}"


def _began(pid: int) -> int | None:
    """Returns when a process of this machine began, in ticks since the start; None if there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return None
