"""Opening MLflow: quickly, quietly, and with one line if it does not answer. Imports mlflow when asked."""

import os
import re
import sqlite3
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tinytl.errors import ConfigError
from tinytl.files import disk_is_full, new_name_beside
from tinytl.passwords import without_password
from tuner.addresses import dialect_of, is_server, sqlite_file
from tuner.bucket.copies import copy_of, named
from tuner.verbosity import apply_verbosity

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SETTINGS = {
    # The tracking thread decides how long to wait: MLflow itself would block a call for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # A server's client prints two lines for every run that ends.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
BUSY_S = 60.0
"""How long to wait while another study holds the database."""
ARTIFACTS = "mlartifacts"
"""Folder beside the database, if no server knows a better place."""
REFUSALS = (
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "PERMISSION_DENIED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_LIMIT_EXCEEDED",
)
"""Error codes that mean that MLflow answered, and refused."""
LONGEST_REASON = 90
"""In characters: MLflow's own text may quote all that was sent."""


def open_mlflow(uri: str) -> "MlflowClient":
    """Returns a client of the server or database at `uri`; makes a SQLite database if there is none.

    Raises:
        ConfigError: if MLflow does not answer.
    """
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    try:
        from mlflow.tracking import MlflowClient

        apply_verbosity()
        file = sqlite_file(uri)
        if file is not None:
            _make_database(file.absolute())
        elif not is_server(uri):
            _connect_once(uri)
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
        return client
    except mlflow_errors(ImportError) as error:  # ImportError: a database driver is missing
        raise ConfigError(_no_answer(uri, error)) from None


@contextmanager
def answering(uri: str, own: Path | None = None) -> Iterator[None]:
    """Raises ConfigError if a call of MLflow fails within, or a file in the study's `own` folder."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:  # OSError: of the files that it keeps
        if own is not None and isinstance(error, OSError) and isinstance(error.filename, str | os.PathLike):
            if Path(error.filename).is_relative_to(own):
                raise ConfigError(f"{error.filename} cannot be read ({error.strerror})") from None
        raise ConfigError(_no_answer(uri, error)) from None


def mlflow_errors(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """Returns the errors of MLflow and of the databases, servers and files behind it: any other is a bug.

    `more`: further errors that are expected.
    """
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError
    from urllib3.exceptions import HTTPError

    # The errors of `requests`, of sockets and of files are all OSErrors.
    return MlflowException, SQLAlchemyError, HTTPError, CommandError, sqlite3.Error, OSError, *more


def refuses(error: BaseException) -> bool:
    """Whether MLflow answered, and refused what it was asked to do."""
    from mlflow.exceptions import MlflowException

    # A quoted page comes from another server.
    quoted = "Response body" in str(error)
    return isinstance(error, MlflowException) and error.error_code in REFUSALS and not quoted


OLD_SCHEMA = "out-of-date database schema"
"""MLflow's own words for a database of an older version."""


def reason(error: BaseException) -> str:
    """Returns why a call of MLflow failed, in one short line."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return f"{inner.filename}: {inner.strerror}" if inner.filename else inner.strerror
        inner = inner.__cause__ or inner.__context__
    text = getattr(error, "message", None) or str(error)  # without its error code
    text = str(text).strip()
    for known in ("Connection refused", "Connection broken", "Connection aborted", "timed out"):
        if known in text:
            return known
    if OLD_SCHEMA in text:
        return f"{OLD_SCHEMA}: copy the database, then run `mlflow db upgrade` with its address"
    first = text.splitlines()[0] if text else type(error).__name__
    return textwrap.shorten(first, LONGEST_REASON, placeholder=" ...")


def _no_answer(uri: str, error: Exception) -> str:
    shown = without_password(uri)
    if re.search(r"\bcode 401\b", str(error).partition("Response body")[0]):
        return (
            f"--tracking-uri {shown}: user or password is wrong: set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD"
        )
    if disk_is_full(error):
        return f"--tracking-uri {shown}: no space is left on its disk: make room"
    does = "refuses" if refuses(error) else "does not answer"
    return f"--tracking-uri {shown}: MLflow {does} ({without_password(reason(error))})"


def check_database(uri: str) -> None:
    """Raises ConfigError if there is no database at `uri`, or it does not answer; never makes one."""
    file = sqlite_file(uri)
    if file is not None:
        if not file.is_file():
            raise ConfigError(f"--tracking-uri {uri}: there is no file {file}")
        return
    try:
        _connect_once(uri)
    except mlflow_errors(ImportError) as error:
        raise ConfigError(_no_answer(uri, error)) from None


def artifacts_beside(uri: str, runs_dir: Path) -> str | None:
    """Returns the folder of a database's artifacts: beside its file, else in `runs_dir`; None for a server.

    MLflow itself would use the working directory. Of a copy of a bucket's folder they are in the bucket.
    """
    if is_server(uri):
        return None
    file = sqlite_file(uri)
    folder = runs_dir.resolve() if file is None else file.absolute().parent
    return named(folder / ARTIFACTS) if copy_of(folder) is not None else (folder / ARTIFACTS).as_uri()


def _make_database(path: Path) -> None:
    """Makes a new database under another name and links it to its own once it is whole.

    MLflow's first opening runs all its migrations, for seconds. After a kill in their middle the file may not
    open again. Before the link, no step has to be safe on the disk, either.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder")
    if path.exists():
        _check_can_write(path)
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import Engine, event

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = new_name_beside(path)
    beside.touch()  # fails at once, and MLflow would retry for minutes

    def hurry(connection: Any, _: Any) -> None:
        # Only this database: Optuna may open its own meanwhile.
        if any(Path(row[2]) == beside for row in connection.execute("PRAGMA database_list")):
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("PRAGMA journal_mode=MEMORY")

    event.listen(Engine, "connect", hurry)
    try:
        SqlAlchemyStore(f"sqlite:///{beside}", (path.parent / ARTIFACTS).as_uri()).engine.dispose()
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        try:
            os.link(beside, path)  # unlike a rename, never over one that another study made meanwhile
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            beside.replace(path)
    finally:
        event.remove(Engine, "connect", hurry)
        beside.unlink(missing_ok=True)


def _check_can_write(path: Path) -> None:
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=BUSY_S)) as database:
        database.execute("BEGIN IMMEDIATE")


def _connect_once(uri: str) -> None:
    """Raises at once if a database does not answer: MLflow would try for an hour."""
    import sqlalchemy

    if dialect_of(uri) in ("", "file"):
        raise ConfigError(
            f"--tracking-uri {without_password(uri)}: MLflow has given up folders of files, which have no "
            "registry: give sqlite:///FILE, another database or a server"
        )
    engine = sqlalchemy.create_engine(uri)
    try:
        engine.connect().close()
    finally:
        engine.dispose()
