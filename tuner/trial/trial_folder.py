"""A trial's folder as its process has it: the study's own, or a copy of what a bucket holds.

In a bucket each file is whole or missing, and is there before an epoch is reported. Imports neither torch nor
ray.
"""

import dataclasses
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinytl.errors import ConfigError
from tinytl.files import naming_the_file
from tinytl.runs.directory import FolderInUseError, RunDirectory
from tuner.bucket.address import is_bucket
from tuner.bucket.claims import Claim, TakenError, claimed, is_claim
from tuner.bucket.copies import copy_at
from tuner.bucket.store import AWAY_S, BucketError

WORK = "work"
"""Role of the copies in which trials train; they are removed when a trial ends."""
_CLAIM = "trial"


def trial_folder(place: str) -> "TrialFolder":
    """Returns the folder of a trial, whose place is a path or an address.

    Raises:
        ConfigError: if the package that reads the bucket is not installed here.
    """
    return TrialInBucket(place) if is_bucket(place) else TrialFolder(Path(place))


@contextmanager
def borrowed(place: str, wait_s: float) -> Iterator[Path]:
    """Yields a folder to work in whose files are kept at the end; one that is no copy is as it is, unclaimed.

    Raises:
        FolderInUseError: if another process still has it in a bucket after `wait_s` seconds.
        ConfigError: if the bucket refuses or does not answer.
    """
    folder = trial_folder(place)
    if not isinstance(folder, TrialInBucket):
        yield folder.path
        return
    with folder.claimed(wait_s):
        yield folder.path
        folder.keep(*(file for file in sorted(folder.path.rglob("*")) if file.is_file()))


class TrialFolder:
    """A folder that the driver sees, too."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def claimed(self, wait_s: float) -> Iterator[None]:
        """Makes the folder, and keeps other processes out for the block.

        Raises:
            FolderInUseError: if another process still has it after `wait_s` seconds.
            ConfigError: if it cannot be made, or not be brought.
        """
        with RunDirectory(self.path).claimed(wait_s):
            yield

    def keep(self, *files: Path) -> None:
        """Returns once files can no longer be lost with this machine, in their order.

        Raises:
            ConfigError: if they cannot be kept.
        """


class TrialInBucket(TrialFolder):
    """A copy of a trial's objects, for this process alone."""

    def __init__(self, address: str) -> None:
        above, _, trial = address.rpartition("/")
        runs, _, study = above.rpartition("/")
        copy = copy_at(runs, WORK)
        self.bucket = dataclasses.replace(copy.bucket, patience_s=AWAY_S)
        self.key = f"{study}/{trial}"
        # A process that was cut off from the bucket may still train the same trial here.
        super().__init__(copy.root / study / trial / uuid.uuid4().hex[:12])
        self._claim: Claim | None = None

    @contextmanager
    def claimed(self, wait_s: float) -> Iterator[None]:
        """Claims the trial in the bucket, and brings what it has."""
        address = self.bucket.named(self.key)
        try:
            with claimed(self.bucket, f"{self.key}/{_CLAIM}", wait_s) as self._claim:
                shutil.rmtree(self.path.parent, ignore_errors=True)  # of processes that were killed
                try:
                    self._bring()
                    yield
                finally:
                    shutil.rmtree(self.path.parent, ignore_errors=True)
        except TakenError:
            raise FolderInUseError(f"{address} is being written by another process") from None
        except BucketError as error:
            raise ConfigError(f"{address} cannot be read ({error}): {error.remedy}") from None

    def keep(self, *files: Path) -> None:
        """Sends files to the bucket."""
        for file in files:
            key = f"{self.key}/{file.relative_to(self.path).as_posix()}"
            try:
                assert self._claim is not None
                self._claim.check()
                self.bucket.write(key, file.read_bytes())
            except BucketError as error:
                raise ConfigError(
                    f"{self.bucket.named(key)} cannot be written ({error}): {error.remedy}, then add --resume"
                ) from None

    def _bring(self) -> None:
        with naming_the_file(self.path):
            self.path.mkdir(parents=True)
        for key in self.bucket.versions(self.key):
            content = None if is_claim(key) else self.bucket.read(key)
            if content is not None:
                file = self.path / key.removeprefix(f"{self.key}/")
                with naming_the_file(file):
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(content)
