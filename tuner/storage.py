"""Where a study's trials are kept: Optuna's journal file, or a database. Imports neither torch nor ray."""

import os
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.storages.journal._file import get_lock_file

from tinytl.errors import ConfigError
from tuner.config import StudyConfig, read_study_file
from tuner.verbosity import apply_verbosity


def open_storage(url: str | None, runs_dir: str) -> BaseStorage:
    """Opens the database at `url`, or the journal file under `runs_dir` (made where it is missing).

    Raises:
        ConfigError: for a database that does not answer.
    """
    apply_verbosity()
    if url is None:
        journal = Path(runs_dir) / "optuna.journal"
        try:
            journal.parent.mkdir(parents=True, exist_ok=True)
            _drop_torn_end(journal)
        except OSError as error:
            raise ConfigError(f"{journal} cannot be written ({error.strerror})") from None
        return JournalStorage(JournalFileBackend(str(journal)))
    try:
        return RDBStorage(url)
    except Exception as error:  # each database driver raises its own kinds
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"--storage {url}: cannot be opened ({reason})") from None


def _drop_torn_end(journal: Path) -> None:
    """Cuts off half a line, which a full disk left at the end: nothing could be appended behind it."""
    if not journal.exists() or _ends_whole(journal):
        return
    with get_lock_file(JournalFileSymlinkLock(str(journal))):
        if not _ends_whole(journal):  # it may have been a line that was just being written
            content = journal.read_bytes()
            os.truncate(journal, content.rfind(b"\n") + 1)


def _ends_whole(journal: Path) -> bool:
    with journal.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def study_exists(config: StudyConfig, name: str) -> bool:
    """Whether the storage has a study `name`; makes no journal file to find out."""
    if config.storage is None and not config.journal.exists():
        return False
    if config.storage is not None and config.storage.startswith("sqlite:///"):
        if not Path(config.storage.removeprefix("sqlite:///")).exists():
            return False
    return name in study_names(open_storage(config.storage, config.runs_dir))


def study_names(storage: BaseStorage) -> list[str]:
    """Returns the names of all studies in a storage."""
    return [study.study_name for study in storage.get_all_studies()]


def load_study(name: str, runs_dir: str, url: str | None = None) -> optuna.Study:
    """Loads a study to read it; its storage is the one that its folder names, unless `url` is given.

    Raises:
        ConfigError: where there is none of that name, naming those that exist.
    """
    if url is None:
        url = read_study_file(name, runs_dir).get("storage")
    if url is None and not (Path(runs_dir) / "optuna.journal").exists():
        raise ConfigError(f"no studies under {runs_dir} (no file optuna.journal): give --runs-dir")
    storage = open_storage(url, runs_dir)
    names = study_names(storage)
    if name not in names:
        raise ConfigError(f"no study {name} under {runs_dir}: there are {', '.join(names) or 'none'}")
    return optuna.load_study(study_name=name, storage=storage)
