"""Local copies of what a bucket holds, so that all else works on folders.

They lie under the cache folder, BUCKET/ROLE/STUDY/...: `read` has what commands look at, `drive-STUDY-TOKEN`
is a driver's. A folder belongs to one role, so no process changes files under another's hands. Small files
are brought as a whole; checkpoints one trial at a time, if they are asked for. What is here may be removed at
any time, except below a driver that runs. For a folder that is no copy, every function here does nothing.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tinytl.errors import ConfigError
from tinytl.files import cache_folder, lock, naming_the_file, write_whole, written_whole
from tuner.bucket.address import checked_runs_dir, is_bucket
from tuner.bucket.claims import Claim, is_claim
from tuner.bucket.store import Bucket, open_bucket, told

READ = "read"
_DRIVE = "drive-"
CHECKPOINTS = (".pt",)
"""Ends of the names of files that are brought one trial at a time."""
_ADDRESS = "address"
_VERSIONS = ".versions.json"
_LOCK = ".lock"
_OF_MLFLOW = ("mlartifacts", "mlflow.db")
_LEFT_THERE = ("export", "mlartifacts", "model")
"""Folders that are not brought: what is in them is not read again, or is asked for (`bring_folder`)."""


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A folder of studies that stands for a bucket."""

    bucket: Bucket
    root: Path

    def key_of(self, path: Path) -> str:
        """Returns the key of the object that a file or a folder stands for."""
        relative = path.relative_to(self.root).as_posix()
        return "" if relative == "." else relative

    def path_of(self, key: str) -> Path:
        """Returns the file that stands for an object."""
        return self.root / key


def copy_at(address: str, role: str) -> Copy:
    """Returns the copy of a bucket that has a role; makes its folder.

    Raises:
        ConfigError: if the package that reads the bucket is not installed, the folder cannot be made, or this
            user has no home folder to make it in.
    """
    folder = _folder()
    if folder is None:
        raise ConfigError(
            f"--runs-dir {address}: this user has no home folder for local copies: set XDG_CACHE_HOME to a "
            "folder"
        )
    above = folder / sha256(address.encode()).hexdigest()[:16]
    root = above / role
    with naming_the_file(root):
        root.mkdir(parents=True, exist_ok=True)
    if not (above / _ADDRESS).exists():
        write_whole(above / _ADDRESS, address)
    return Copy(bucket=open_bucket(address), root=root)


def drivers_copy(bucket: Bucket, study: str, claim: Claim) -> Copy:
    """Returns an empty copy for the driver that has claimed a study; removes those of drivers before it.

    Each claim has a copy of its own. Else a driver that lost its claim would write into its successor's
    record, if both have one cache folder: a home folder on NFS, or a machine that slept.

    Raises:
        ClaimLostError: if another driver has taken over.
        ConfigError: if the folder cannot be made.
    """
    role = f"{_DRIVE}{study}-{claim.token[:8]}"
    copy = Copy(bucket=bucket, root=copy_at(bucket.address, role).root)
    claim.check()  # those of drivers before, not that of the next one
    before = re.compile(re.escape(f"{_DRIVE}{study}-") + "[0-9a-f]{8}")
    for other in copy.root.parent.iterdir():
        if before.fullmatch(other.name) and other != copy.root:
            # One that was taken for gone may still write there: what it adds goes with the next driver.
            shutil.rmtree(other, ignore_errors=True)
    return copy


def copy_of(path: Path | str) -> Copy | None:
    """Returns the copy that a path lies in, None for any other path."""
    root = _root_of(path)
    return None if root is None else Copy(bucket=open_bucket(_address_of(root)), root=root)


def named(path: Path | str) -> str:
    """Returns how a line names a file or a folder: by its address if it is in a copy."""
    root = _root_of(path)
    if root is None:
        return str(path)
    relative = Path(path).resolve().relative_to(root).as_posix()
    return _address_of(root) if relative == "." else f"{_address_of(root)}/{relative}"


def at_hand(runs_dir: str, study: str | None = None, *, every: bool = False) -> str:
    """Returns the folder of the studies that `--runs-dir` names; for a bucket, its copy.

    The small files of `study` are brought first, or, if `every`, what tells the studies of the bucket apart.

    Raises:
        ConfigError: for an address that cannot be read, or a bucket that refuses or does not answer.
    """
    runs_dir = checked_runs_dir(runs_dir)
    copy = copy_at(runs_dir, READ) if is_bucket(runs_dir) else copy_of(runs_dir)
    if copy is None:
        return runs_dir
    with told(f"--runs-dir {copy.bucket.address}"):
        if study is not None:
            bring_study(copy, study)
        if every:
            names = studies_in(copy.bucket)
            for name in names:
                bring_study(copy, name, deep=False)
            _remove_gone(copy, lambda name: name not in names and not name.startswith(_OF_MLFLOW))
    return str(copy.root)


def studies_in(bucket: Bucket) -> list[str]:
    """Returns the names of the studies in a bucket: of folders that are not MLflow's."""
    return [name for name in bucket.folders() if not name.startswith(_OF_MLFLOW)]


def bring_study(
    copy: Copy, study: str, *, deep: bool = True, wanted: Callable[[str], bool] = lambda key: True
) -> None:
    """Brings a study's small files that have changed, and removes those that are gone from the bucket.

    `deep`: those of its trials, too. `wanted`: which keys. If the study itself is gone, so is all of it here
    that commands read.

    Raises:
        BucketError: if the bucket refuses or does not answer.
    """

    def small(key: str) -> bool:
        below = key.split("/")[1:]
        return bool(below) and below[0] not in _LEFT_THERE and not key.endswith(CHECKPOINTS) and wanted(key)

    if not _bring(copy, study, small, deep=deep):
        _remove_gone(copy, lambda name: name == study)


def bring_checkpoints(folder: Path) -> None:
    """Brings the checkpoints of a trial's folder, if it is in a copy.

    Raises:
        ConfigError: if the bucket refuses or does not answer.
    """
    _bring_of(folder, lambda key: key.endswith(CHECKPOINTS), deep=False)


def bring_folder(folder: Path) -> None:
    """Brings all files of a folder, if it is in a copy.

    Raises:
        ConfigError: if the bucket refuses or does not answer.
    """
    _bring_of(folder, lambda key: True, deep=True)


def _bring_of(folder: Path, wanted: Callable[[str], bool], *, deep: bool) -> None:
    copy = copy_of(folder)
    if copy is not None:
        with told(f"--runs-dir {copy.bucket.address}"):
            _bring(copy, copy.key_of(folder.resolve()), wanted, deep=deep)


def send(path: Path) -> None:
    """Writes a file, or all files of a folder, to the bucket, if it is in a copy.

    Raises:
        ConfigError: if the bucket refuses or does not answer.
    """
    copy = copy_of(path)
    if copy is not None:
        path = path.resolve()
        with told(f"--runs-dir {copy.bucket.address}"):
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    copy.bucket.write(copy.key_of(file), file.read_bytes())


def remove_from_bucket(folder: Path, last: str) -> None:
    """Removes the objects that a folder stands for, the one named `last` at the end; its own claim stays.

    Raises:
        ConfigError: if the bucket refuses or does not answer.
    """
    copy = copy_of(folder)
    if copy is not None:
        with told(f"--runs-dir {copy.bucket.address}"):
            under = copy.key_of(folder.resolve())
            held = {key for key in copy.bucket.versions(under) if is_claim(key) and key.count("/") == 2}
            found = copy.bucket.versions(under).keys() - held
            copy.bucket.remove(sorted(found, key=lambda key: key == f"{under}/{last}"))


def _bring(copy: Copy, under: str, wanted: Callable[[str], bool], *, deep: bool) -> bool:
    """Brings wanted objects that have changed; returns whether the bucket has any there, wanted or not."""
    with _alone(copy):
        known = known_versions(copy)
        found_there = {k: v for k, v in copy.bucket.versions(under, deep=deep).items() if not is_claim(k)}
        there = {key: version for key, version in found_there.items() if wanted(key)}
        if deep:
            _forget(
                copy,
                known,
                [key for key in known if _is_below(key, under) and wanted(key) and key not in there],
            )
        new = [k for k, version in there.items() if known.get(k) != version or not copy.path_of(k).is_file()]
        large = [key for key in new if key.endswith(CHECKPOINTS)]
        found = copy.bucket.read_all([key for key in new if key not in large])
        for key in large:
            content = copy.bucket.read(key)
            found |= {} if content is None else {key: content}
        for key, content in found.items():
            path = copy.path_of(key)
            with naming_the_file(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with written_whole(path) as out:
                    out.write(content)
            known[key] = there[key]
        if new:
            write_whole(copy.root / _VERSIONS, json.dumps(known))
    return bool(found_there)


def _remove_gone(copy: Copy, chosen: Callable[[str], bool]) -> None:
    """Removes chosen studies of which the bucket has nothing but claims from the copy that commands read.

    Also what was made here, such as a report: it would make the name look taken, and the study alive.
    """
    if copy.root.name != READ:  # a driver's or a trial's: what it wrote may not have been sent yet
        return
    with _alone(copy):
        folders = [path for path in copy.root.iterdir() if path.is_dir() and chosen(path.name)]
        gone = [path for path in folders if all(map(is_claim, copy.bucket.versions(path.name)))]
        if not gone:
            return
        known = known_versions(copy)
        for folder in gone:
            known = {key: version for key, version in known.items() if not _is_below(key, folder.name)}
            with naming_the_file(folder):
                shutil.rmtree(folder)
        write_whole(copy.root / _VERSIONS, json.dumps(known))


@contextmanager
def _alone(copy: Copy) -> Iterator[None]:
    """Keeps other processes from changing a copy: they would not agree on what is here."""
    with naming_the_file(copy.root):
        guard = (copy.root / _LOCK).open("ab")
    with guard:
        lock(guard)
        yield


def _forget(copy: Copy, known: dict[str, str], gone: Iterable[str]) -> None:
    """Removes files that the bucket no longer has, and the folders that are then empty."""
    for key in gone:
        del known[key]
        path = copy.path_of(key)
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == copy.root or not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()


def _is_below(key: str, folder: str) -> bool:
    return key.startswith(f"{folder}/")


def known_versions(copy: Copy) -> dict[str, str]:
    """Returns the version of each object that was brought, or what was noted of it."""
    path = copy.root / _VERSIONS
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def note_version(copy: Copy, key: str, version: str | None) -> None:
    """Keeps which version of an object was brought or sent; None: neither, as far as is known."""
    with _alone(copy):
        known = known_versions(copy)
        known.pop(key, None)
        if version is not None:
            known[key] = version
        write_whole(copy.root / _VERSIONS, json.dumps(known))


def _folder() -> Path | None:
    """Returns where copies lie; None if this user has no home folder, so that there are none."""
    try:
        cache = cache_folder()
    except RuntimeError:  # as Path.home says it
        return None
    return (cache / "buckets").resolve()


def _root_of(path: Path | str) -> Path | None:
    whole, above = Path(path).resolve(), _folder()
    if above is None or not whole.is_relative_to(above):
        return None
    parts = whole.relative_to(above).parts
    return above.joinpath(*parts[:2]) if len(parts) >= 2 else None


def _address_of(root: Path) -> str:
    file = root.parent / _ADDRESS
    try:
        return file.read_text()
    except OSError:
        raise ConfigError(f"{file} is gone: remove {root.parent} and do this again") from None
