"""The studies of a folder and of its storages, and how far each is. Imports neither torch nor ray."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

from tinytl.errors import ConfigError
from tinytl.passwords import without_password
from tuner.bucket.copies import copy_of, named
from tuner.config import STUDY_FILE, read_study_file
from tuner.record import schema
from tuner.record.claim import holder_of
from tuner.record.journal import JOURNAL
from tuner.record.sessions import read_sessions
from tuner.record.storage import open_storage, study_names
from tuner.record.trials import state_of

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from rich.console import Console


@dataclass(frozen=True, kw_only=True)
class ListedStudy:
    """One line of `python -m tuner list`."""

    study: str
    state: str
    """`running`: a driver lives; `finished`: it has all its trials; else `unfinished`."""
    ended: int
    """Trials that count: complete, pruned or failed."""
    requested: int
    began: datetime | None

    def to_json(self) -> dict[str, Any]:
        """Returns what `--json` prints about it."""
        return {
            "study": self.study,
            "state": self.state,
            "ended": self.ended,
            "requested": self.requested,
            "began": self.began and self.began.isoformat(timespec="seconds"),
        }


def list_studies(runs_dir: str, storage: str | None = None) -> tuple[list[ListedStudy], list[str]]:
    """Returns the studies of `runs_dir` by name, and a line for each storage or file that cannot be read.

    They are those of its journal, those with a folder that names another storage, and those of `storage`.

    Raises:
        ConfigError: for a `storage` that does not answer, or if there are no studies at all.
    """
    found: dict[str, ListedStudy] = {}
    unread: list[str] = []
    if storage is not None:
        found |= {study.study: study for study in _in_storage(open_storage(storage, runs_dir), runs_dir)}
    places: dict[str | None, str] = {}
    for file in sorted(Path(runs_dir).glob(f"*/{STUDY_FILE}")):
        try:
            url = read_study_file(file.parent.name, runs_dir).get("storage")
        except ConfigError as error:
            unread.append(str(error))
        else:
            places.setdefault(url, file.parent.name)
    places.pop(None, None)
    pattern = JOURNAL if copy_of(runs_dir) is None else f"*/{JOURNAL}"  # in a bucket a study has its own
    stores: list[tuple[str | None, str, str]] = [
        *(
            (None, str(journal.parent), journal.parent.name)
            for journal in sorted(Path(runs_dir).glob(pattern))
        ),
        *((url, runs_dir, name) for url, name in places.items()),
    ]
    for url, folder, example in stores:
        try:
            store = open_storage(url, folder)
        except ConfigError as error:
            unread.append(f"study {example} and others of its storage: {error}")
            continue
        # Other folders may use the storage as well: only the studies of this one.
        here = {s.study: s for s in _in_storage(store, runs_dir) if url is None or _names(runs_dir, s, url)}
        found = here | found
    if not found and not unread:
        place = "" if storage is None else f", nor in {without_password(storage)}"
        raise ConfigError(f"no studies under {named(runs_dir)}{place}: give --runs-dir")
    return [found[name] for name in sorted(found)], unread


def print_studies(console: Console, studies: list[ListedStudy]) -> None:
    """Prints a line for each study."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("study", overflow="fold")
    for column in ("state", "trials", "began"):
        table.add_column(column, no_wrap=True, justify="right" if column == "trials" else "left")
    for study in studies:
        began = "" if study.began is None else f"{study.began:%Y-%m-%d %H:%M}"
        table.add_row(study.study, study.state, f"{study.ended}/{study.requested}", began)
    console.print(table)


def _in_storage(store: BaseStorage, runs_dir: str) -> Iterator[ListedStudy]:
    for name in study_names(store):
        yield _listed(optuna.load_study(study_name=name, storage=store), Path(runs_dir) / name)


def _listed(study: optuna.Study, folder: Path) -> ListedStudy:
    attributes, trials = study.user_attrs, study.get_trials(deepcopy=False)
    ended = sum(state_of(trial) in schema.ENDED for trial in trials)
    requested = int(attributes.get(schema.REQUESTED, 0))
    sessions = read_sessions(attributes)
    starts = [trial.datetime_start for trial in trials if trial.datetime_start is not None]
    began = datetime.fromtimestamp(sessions[0].began_ms / 1000) if sessions else min(starts, default=None)
    state = "finished" if requested and ended >= requested else "unfinished"
    if holder_of(folder, attributes) is not None:
        state = "running"
    return ListedStudy(study=study.study_name, state=state, ended=ended, requested=requested, began=began)


def _names(runs_dir: str, study: ListedStudy, url: str) -> bool:
    return bool(read_study_file(study.study, runs_dir).get("storage") == url)
