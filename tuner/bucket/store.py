"""The objects of a bucket, by key: an object is whole or missing. All backends' errors become BucketError."""

import errno
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from textwrap import shorten
from typing import Any, TypeVar

from tinytl.errors import ConfigError, causes, needs_extra
from tuner.bucket.address import EXTRAS

AWAY_S = 60.0
"""How long a study and its trials try again if a bucket does not answer."""
_PAUSE_S = 1.0
_AWAY_ERRNO = (errno.EBUSY, errno.EIO, errno.ETIMEDOUT)
"""As s3fs translates what a server says that is busy or has failed."""
_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or log in with gcloud",
}
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"}
_REFUSED_KEYS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken")
_PROBE = ".probe-"

T = TypeVar("T")


class BucketError(OSError):
    """A bucket refused, or did not answer: one line."""

    def __init__(self, text: str, *, remedy: str = "bring the bucket back", away: bool = False) -> None:
        super().__init__(text)
        self.remedy = remedy
        """What to do about it."""
        self.away = away
        """Whether the same call may succeed later."""


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A prefix in a bucket. Every method raises BucketError if the bucket refuses or does not answer."""

    address: str
    files: Any
    """fsspec's file system."""
    root: str
    """The prefix, as the file system names it."""
    patience_s: float = 0.0
    """How long to try again if the bucket does not answer."""

    def read(self, key: str) -> bytes | None:
        """Returns an object's content, None if it is missing."""

        def read() -> bytes | None:
            try:
                return bytes(self.files.cat_file(self._path(key)))
            except FileNotFoundError as error:
                if _names_the_bucket(error):
                    raise
                return None

        return self._patiently(key, read)

    def read_all(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Returns the content of many small objects, read at once; those that are gone are left out."""
        paths = {self._path(key): key for key in keys}
        if not paths:
            return {}

        def read() -> dict[str, bytes]:
            found = self.files.cat(list(paths), on_error="return")
            for content in found.values():
                if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                    raise content
            return {paths[path]: content for path, content in found.items() if isinstance(content, bytes)}

        return self._patiently("", read)

    def write(self, key: str, content: bytes) -> None:
        """Writes an object whole, over one that is there."""
        self._patiently(key, lambda: self.files.pipe_file(self._path(key), content))

    def create(self, key: str, content: bytes) -> bool:
        """Writes an object if there is none with that key; of many callers one does, and gets True."""

        def create() -> bool:
            try:
                self.files.pipe_file(self._path(key), content, mode="create")
            except FileExistsError:
                return self.read(key) == content  # the answer to a call before was lost
            return True

        return self._patiently(key, create)

    def remove(self, keys: Iterable[str]) -> None:
        """Removes objects, one after the other; missing ones are left alone."""
        for key in keys:

            def remove(path: str = self._path(key)) -> None:
                try:
                    self.files.rm_file(path)
                except FileNotFoundError as error:
                    if _names_the_bucket(error):
                        raise

            self._patiently(key, remove)

    def versions(self, under: str, *, deep: bool = True) -> dict[str, str]:
        """Returns a text for each object under a key's folder that differs once the object was written again.

        `deep`: also in the folders below.
        """

        def versions() -> dict[str, str]:
            try:
                found = self.files.find(self._path(under), maxdepth=None if deep else 1, detail=True)
            except FileNotFoundError as error:
                if _names_the_bucket(error):
                    raise
                return {}
            return {
                self._key(path): _version(about) for path, about in found.items() if about["type"] == "file"
            }

        return self._patiently(under, versions)

    def folders(self) -> list[str]:
        """Returns the names of what look like folders under the prefix."""

        def folders() -> list[str]:
            try:
                found = self.files.ls(self.root, detail=True)
            except FileNotFoundError as error:
                if _names_the_bucket(error):
                    raise
                return []
            return sorted(self._key(one["name"].rstrip("/")) for one in found if one["type"] == "directory")

        return self._patiently("", folders)

    def written_at(self, key: str) -> datetime | None:
        """Returns when an object was last written, by the bucket's clock; None if it is missing."""

        def written_at() -> datetime | None:
            try:
                return _moment(self.files.modified(self._path(key)))
            except FileNotFoundError:
                return None

        return self._patiently(key, written_at)

    def now(self, under: str) -> datetime:
        """Returns the bucket's time, by an object that is written below a key's folder, and removed."""
        probe = f"{under}/{_PROBE}{uuid.uuid4().hex[:12]}"
        self.write(probe, b"")
        try:
            found = self.written_at(probe)
        finally:
            self.remove([probe])
        if found is None:
            raise BucketError(f"{self.named(probe)}: what was written is not there", away=True)
        return found

    def check_writable(self) -> None:
        """Makes an object, reads it and removes it.

        Raises:
            ConfigError: saying what is wrong, and what to do.
        """
        probe = f"{_PROBE}{uuid.uuid4().hex[:12]}"
        with told(f"--runs-dir {self.address}"):
            self.create(probe, b"1")
            again, found = self.create(probe, b"2"), self.read(probe)
            self.versions("", deep=False)
            self.remove([probe])
            if again or found != b"1":
                raise BucketError(
                    "two processes could make the same object",
                    remedy="use a server that knows the condition If-None-Match",
                )

    def named(self, key: str) -> str:
        """Returns the address of an object."""
        return f"{self.address}/{key}" if key else self.address

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}".rstrip("/")

    def _key(self, path: str) -> str:
        return path.removeprefix(f"{self.root}/")

    def _patiently(self, key: str, call: Callable[[], T]) -> T:
        deadline = time.monotonic() + self.patience_s
        while True:
            try:
                return call()
            except BucketError:
                raise  # of a call inside the call
            except _backend_errors() as error:
                told = _as_bucket_error(error, self.named(key))
                if not told.away or time.monotonic() >= deadline:
                    raise told from error
            time.sleep(_PAUSE_S)


@contextmanager
def told(what: str) -> Iterator[None]:
    """Turns a BucketError of the block into a ConfigError: `what`, what went wrong, what to do."""
    try:
        yield
    except BucketError as error:
        raise ConfigError(f"{what}: {error}: {error.remedy}") from None


@cache
def open_bucket(address: str) -> Bucket:
    """Returns the bucket at an address that was checked; nothing is asked of it yet.

    Raises:
        ConfigError: if the package that reads it is not installed.
    """
    import fsspec

    scheme = address.partition("://")[0]
    with needs_extra(f"--runs-dir {scheme}://", EXTRAS.get(scheme, scheme)):
        try:
            # Nothing is kept of what was listed: other processes write there.
            files = fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True)
        except ImportError as error:  # of fsspec's own, behind which is the one that names the package
            raise next(e for e in causes(error) if isinstance(e, ModuleNotFoundError)) from None
    return Bucket(address=address, files=files, root=files._strip_protocol(address))


def _version(about: Mapping[str, Any]) -> str:
    for name in ("ETag", "etag", "generation", "created"):
        if about.get(name):
            return f"{about[name]} {about.get('size')}"
    raise AssertionError(f"a listing without versions: {sorted(about)}")


def _moment(modified: datetime | str) -> datetime:
    moment = datetime.fromisoformat(modified) if isinstance(modified, str) else modified
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _backend_errors() -> tuple[type[Exception], ...]:
    """Returns what the packages that were loaded raise if a bucket refuses or does not answer."""
    kinds: list[type[Exception]] = [OSError]
    for module, name in (
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
        ("google.auth.exceptions", "GoogleAuthError"),
        ("gcsfs.retry", "HttpError"),
        ("aiohttp", "ClientError"),
    ):
        if module in sys.modules:
            kinds.append(getattr(sys.modules[module], name))
    return tuple(kinds)


def _names_the_bucket(error: BaseException) -> bool:
    """Whether what is missing is the bucket, not an object."""
    return any(
        "NoSuchBucket" in str(inner) or "bucket does not exist" in str(inner) for inner in causes(error)
    )


def _as_bucket_error(error: Exception, place: str) -> BucketError:
    scheme, bucket = place.partition("://")[0], place.partition("://")[2].partition("/")[0]
    said = " ".join(str(inner) for inner in causes(error))
    kinds = {kind.__name__ for inner in causes(error) for kind in type(inner).__mro__}
    credentials = _CREDENTIALS.get(scheme, "give credentials")
    if isinstance(error, FileNotFoundError) and _names_the_bucket(error):
        return BucketError(f"there is no bucket {bucket}", remedy="make it, or name another")
    if (
        kinds & {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"}
        or "Anonymous" in said
    ):
        return BucketError("there are no credentials", remedy=credentials)
    refused = next((word for word in _REFUSED_KEYS if word in said), None)
    if refused is not None:
        return BucketError(f"the credentials are refused ({refused})", remedy=credentials)
    if isinstance(error, PermissionError) or "Forbidden" in said:
        remedy = "allow reading, writing, listing and removing there, or give other credentials"
        return BucketError(f"{place}: access is denied", remedy=remedy)
    lines = str(error).strip().splitlines() or [type(error).__name__]
    away = (
        bool(kinds & {"ConnectionError", "HTTPClientError", "TimeoutError", "ClientConnectionError"})
        or getattr(error, "errno", None) in _AWAY_ERRNO
    )
    if away:
        return BucketError(f"{place}: the bucket does not answer ({shorten(lines[0], 120)})", away=True)
    return BucketError(f"{place}: {shorten(lines[0], 200)}", remedy="make the bucket accept that")
