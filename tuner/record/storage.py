"""Where a study's trials are kept: Optuna's journal file, or a database. Imports neither torch nor ray."""

import logging
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage

from tinytl.errors import ConfigError
from tinytl.files import naming_the_file
from tinytl.passwords import without_password
from tuner.addresses import is_sqlite, sqlite_file
from tuner.bucket.copies import copy_of, named, studies_in
from tuner.bucket.store import told
from tuner.config import StudyConfig, read_study_file
from tuner.record.journal import JOURNAL, JournalFile, journal_of
from tuner.record.refusals import BACK, remedy_for
from tuner.verbosity import apply_verbosity

if TYPE_CHECKING:
    from sqlalchemy import Engine

AWAY_S = 60.0
"""How long a study waits for a database that no longer answers, before it stops."""
CONNECT_TIMEOUT_S = 5

logger = logging.getLogger(__name__)


def open_storage(url: str | None, folder: str) -> BaseStorage:
    """Opens the database at `url`, or the journal file in `folder` (made if it is missing).

    Raises:
        ConfigError: for a database that does not answer.
    """
    apply_verbosity()
    if url is None:
        journal = Path(folder) / JOURNAL
        with naming_the_file(journal):
            journal.parent.mkdir(parents=True, exist_ok=True)
            return JournalStorage(JournalFile(journal))
    # A connection is tested before it is used: nothing is half-written on a dead one.
    options: dict[str, Any] = {"pool_pre_ping": True}
    if url.startswith("postgresql"):
        options["connect_args"] = {"connect_timeout": CONNECT_TIMEOUT_S}
    try:
        storage = RDBStorage(url, engine_kwargs=options)
    except Exception as error:  # each database driver raises its own kinds
        said = f"{shown_storage(url, folder)}: cannot be opened ({_reason(error)})"
        remedy = remedy_for(error)
        raise ConfigError(said if remedy == BACK else f"{said}: {remedy}") from None
    _outlast_restarts(storage.engine)
    # Who has read what it wanted drops the storage; the database's connections are closed with it.
    weakref.finalize(storage, storage.engine.dispose)
    return storage


def open_storage_of(study: str, url: str | None, runs_dir: str) -> BaseStorage:
    """Opens the database at `url`, or the journal in which a study of `runs_dir` is (made if it is missing).

    Raises:
        ConfigError: for a database that does not answer.
    """
    return open_storage(url, str(journal_of(runs_dir, study).parent))


def shown_storage(url: str | None, folder: str) -> str:
    """Returns how a line names a study's storage: the journal in `folder`, or its address."""
    return named(Path(folder) / JOURNAL) if url is None else f"--storage {without_password(url)}"


def _reason(error: Exception) -> str:
    """Returns what a database said, in one line; its own last line says most."""
    text = str(getattr(error, "orig", None) or error.__cause__ or error).strip()
    reason = without_password(text.splitlines()[-1].rpartition("FATAL:  ")[2].strip())
    if "password" in reason:
        reason += ": give the password in --storage, in PGPASSWORD or in ~/.pgpass"
    return reason


def _outlast_restarts(engine: "Engine") -> None:
    """Makes each new connection wait for a database that is away for a while, as during its restart."""
    from sqlalchemy import event
    from sqlalchemy.engine.interfaces import Dialect

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Dialect, record: Any, args: Any, options: Any) -> Any:
        deadline = time.monotonic() + AWAY_S
        told = False
        while True:
            try:
                return dialect.connect(*args, **options)
            except dialect.loaded_dbapi.OperationalError as error:
                if time.monotonic() > deadline:
                    raise
                if not told:
                    logger.warning("--storage: the database is away (%s): waiting", _reason(error))
                    told = True
            time.sleep(1.0)


def study_exists(config: StudyConfig, name: str) -> bool:
    """Whether the storage has a study `name`; makes no journal file to find out."""
    if config.storage is None and not journal_of(config.runs_dir, name).exists():
        return False
    if config.storage is not None and not _may_exist(config.storage):
        return False
    return name in study_names(open_storage_of(name, config.storage, config.runs_dir))


def _may_exist(url: str) -> bool:
    """Whether a database may be there: SQLite would make the file that it looks for."""
    file = sqlite_file(url)
    return not is_sqlite(url) or (file is not None and file.exists())


def study_names(storage: BaseStorage) -> list[str]:
    """Returns the names of all studies in a storage."""
    return [study.study_name for study in storage.get_all_studies()]


def load_study(name: str, runs_dir: str, url: str | None = None) -> optuna.Study:
    """Loads a study to read it; its storage is the one that its folder names, unless `url` is given.

    Raises:
        ConfigError: if there is no study of that name; it names those that exist.
    """
    if url is None:
        url = read_study_file(name, runs_dir).get("storage")
    if url is None and not journal_of(runs_dir, name).exists():
        copy = copy_of(runs_dir)
        if copy is None:
            raise ConfigError(f"no studies under {runs_dir} (no file optuna.journal): give --runs-dir")
        with told(f"--runs-dir {copy.bucket.address}"):
            names = studies_in(copy.bucket)
        raise ConfigError(
            f"no study {name} under {copy.bucket.address}: there are {', '.join(names) or 'none'}"
        )
    if url is not None and not _may_exist(url):
        raise ConfigError(f"--storage {url}: no such file")
    storage = open_storage_of(name, url, runs_dir)
    names = study_names(storage)
    if name not in names:
        place = f"under {named(runs_dir)}" if url is None else f"in {without_password(url)}"
        raise ConfigError(f"no study {name} {place}: there are {', '.join(names) or 'none'}")
    return optuna.load_study(study_name=name, storage=storage)
