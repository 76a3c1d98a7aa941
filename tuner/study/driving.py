"""The driver's hold on a study's folder, and what keeps it safe if the folder stands for a bucket.

The order of writing makes a kill between any two harmless: a trial's configuration before the journal that
names it, and the journal last, as it was before the other files were looked for.
"""

import dataclasses
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tinytl.errors import ConfigError
from tinytl.runs.directory import RunDirectory
from tuner.bucket.claims import Claim, ClaimLostError
from tuner.bucket.copies import Copy, bring_study, copy_of, drivers_copy
from tuner.bucket.database import bring_database, send_database
from tuner.bucket.store import AWAY_S, BucketError, told
from tuner.cluster.node_checks import check_bucket, check_folders
from tuner.cluster.nodes import Node
from tuner.config import STUDY_FILE
from tuner.next_commands import sync_command, where_flags
from tuner.prepared import PreparedStudy
from tuner.record.claim import bucket_claimed, folder_claimed
from tuner.record.journal import JOURNAL
from tuner.record.trials import CURVE_FILE

SEND_S = 1.0
"""The longest that a record waits for the bucket, if nothing waits for it."""
_NOT_SENT = (".", "driver.lock")
"""Beginnings of names of files that are of this machine alone."""


class KeptHere:
    """A study whose folder is all there is: what is written there is safe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check_nodes(self, nodes: Sequence[Node]) -> None:
        """Checks that trials on other machines can write where this study is kept.

        Raises:
            ConfigError: naming the node, and what it lacks.
        """
        check_folders(nodes, self.folder)

    def secure(self) -> None:
        """Returns once what was written can no longer be lost with this machine."""

    def collect(self) -> None:
        """Brings what the trials' processes wrote."""

    def send_tracking(self) -> str | None:
        """Sends MLflow's database; returns what to say if it was not sent."""
        return None


class KeptInBucket(KeptHere):
    """A study in a bucket: its driver's files are sent when they must not be lost, else within a second.

    Files of a trial that only its own process writes are left to that.
    """

    def __init__(self, copy: Copy, study: str, claim: Claim) -> None:
        super().__init__(copy.root / study)
        self.copy = copy
        self.study = study
        self.claim = claim
        self._lock = threading.Lock()
        self._journal = self.folder / JOURNAL
        self._sent = {path: _state(path) for path in [*self._files(), self._journal]}

    def check_nodes(self, nodes: Sequence[Node]) -> None:
        """Checks that each node reads this driver's claim, and writes beside it."""
        check_bucket(nodes, self.copy.bucket, self.claim)

    def secure(self) -> None:
        """Sends what has changed.

        Raises:
            ClaimLostError: if another driver has taken over.
            BucketError: if the bucket refuses, or has not answered for a minute.
        """
        with self._lock:
            # Before the other files are listed: a trial that it names by now has all its files.
            journal = self._changed(self._journal)
            for path in self._files():
                self._send(path, self._changed(path))
            if journal is not None:  # another thread may have been in the middle of a line
                whole = journal.content[: journal.content.rfind(b"\n") + 1]
                journal = journal._replace(content=whole)
            self._send(self._journal, journal)

    def _changed(self, path: Path) -> "_Content | None":
        """Returns a file that is not in the bucket as it is; None also if it is gone by now."""
        state = _state(path)
        if state is None or self._sent.get(path) == state:
            return None
        with suppress(FileNotFoundError):
            return _Content(state, path.read_bytes())
        return None

    def _send(self, path: Path, found: "_Content | None") -> None:
        if found is not None:
            self.claim.check()
            self.copy.bucket.write(self.copy.key_of(path), found.content)
            self._sent[path] = found.state

    def collect(self) -> None:
        """Brings what the trials' processes wrote.

        Raises:
            BucketError: if the bucket refuses, or has not answered for a minute.
        """
        bring_study(self.copy, self.study, wanted=lambda key: not self._is_drivers(key.split("/")[1:]))

    def send_tracking(self) -> str | None:
        """Sends MLflow's database, which other studies send, too."""
        try:
            if send_database(self.copy):
                return None
            why = "another study has written MLflow's database in the bucket"
        except BucketError as error:
            why = f"MLflow's database was not sent ({error})"
        return f"{why}: `{sync_command(self.study, where_flags(str(self.copy.root)))}` adds this study"

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Sends what changes every second, while the block runs, and all of it at its end."""
        ended = threading.Event()

        def send() -> None:
            while not ended.wait(SEND_S):
                with suppress(BucketError):  # whoever needs it to be safe will see that
                    self.secure()

        thread = threading.Thread(target=send, name="bucket", daemon=True)
        thread.start()
        try:
            yield
        except BaseException as error:
            ended.set()
            with suppress(BucketError):  # the first error is the one to tell
                self.secure()
            if isinstance(error, ConfigError | OSError):
                self._tell_a_loss()
            raise
        finally:
            ended.set()
            thread.join()
        self.secure()

    def _tell_a_loss(self) -> None:
        """Raises ClaimLostError if files are missing here because the next driver has removed them."""
        if not (self.folder / STUDY_FILE).is_file():
            try:
                self.claim.renew()
            except ClaimLostError:
                raise
            except BucketError:  # nobody knows
                return

    def _files(self) -> list[Path]:
        """Returns the files that the driver writes, but for the journal."""
        folder = self.folder
        found = [path for path in _entries(folder) if path.is_file() and path.name != JOURNAL]
        own = [path for path in found if not path.name.startswith(_NOT_SENT) and path.suffix != ".part"]
        for trial in _entries(folder):
            own += [trial / name for name in _OF_A_TRIAL if (trial / name).is_file()]
        return own

    def _is_drivers(self, below: list[str]) -> bool:
        return len(below) == 1 or (len(below) == 2 and below[1] in _OF_A_TRIAL)


_OF_A_TRIAL = (RunDirectory(Path()).config_file.name, CURVE_FILE)
"""In a trial's folder: what its driver writes."""


@contextmanager
def driven(prepared: PreparedStudy) -> Iterator[tuple[PreparedStudy, KeptHere]]:
    """Keeps other drivers off a study; yields it with the folder to work in, and what keeps that safe.

    Raises:
        ConfigError: naming the driver that has it, or if the folder or the bucket refuses.
    """
    there = copy_of(prepared.folder)
    if there is None:
        with folder_claimed(prepared.folder, prepared.name):
            yield prepared, KeptHere(prepared.folder)
        return
    bucket = dataclasses.replace(there.bucket, patience_s=AWAY_S)
    with bucket_claimed(bucket, prepared.name) as claim:
        with told(f"--runs-dir {bucket.address}"):
            copy = drivers_copy(bucket, prepared.name, claim)
            bring_study(copy, prepared.name)
            if prepared.config.tracks and prepared.config.tracking_uri is None:
                bring_database(copy)
        if not prepared.config.resume and (copy.root / prepared.name / STUDY_FILE).exists():
            raise ConfigError(
                f"study {prepared.name} exists under {bucket.address}: add --resume to continue it, or "
                "change --name"
            )
        prepared = dataclasses.replace(
            prepared, config=dataclasses.replace(prepared.config, runs_dir=str(copy.root))
        )
        kept = KeptInBucket(copy, prepared.name, claim)
        with told(f"--runs-dir {bucket.address}"), kept.sending():
            yield prepared, kept


class _Content(NamedTuple):
    """A file as it was read."""

    state: tuple[int, int]
    """From before it was read: what is added meanwhile counts as changed."""
    content: bytes


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _state(path: Path) -> tuple[int, int] | None:
    try:
        about = path.stat()
    except FileNotFoundError:
        return None
    return about.st_mtime_ns, about.st_size
