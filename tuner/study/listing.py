"""The studies of a folder and of its storages, and how far each is. Imports neither torch nor ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

from tinytl.config.names import METRICS
from tinytl.errors import ConfigError
from tinytl.passwords import without_password
from tuner.bucket.copies import copy_of, named
from tuner.config import STUDY_FILE, read_study_file
from tuner.record.journal import JOURNAL
from tuner.record.reading import StudyReading, read_study
from tuner.record.storage import open_storage, study_names
from tuner.record.trials import Trial, known
from tuner.study.delete import folder_mb

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
    counts: Mapping[str, int]
    """Trials by state."""
    best: Trial | None
    """Within the study's budget."""
    began: datetime | None
    last_end: datetime | None
    """Of a trial."""
    size_mb: float | None
    """Of the study's folder, in 1e6 bytes; None in a bucket, which does not say."""

    def to_json(self) -> dict[str, Any]:
        """Returns what `--json` prints about it."""
        return {
            "study": self.study,
            "state": self.state,
            "ended": self.ended,
            "requested": self.requested,
            "trials": dict(self.counts),
            "best": self.best
            and {
                "trial": self.best.name,
                "metric": self.best.metric,
                **{name: known(getattr(self.best, name)) for name in METRICS},
                "peak_memory_mib": self.best.peak_memory_mib,
            },
            "began": self.began and self.began.isoformat(timespec="seconds"),
            "last_end": self.last_end and self.last_end.isoformat(timespec="seconds"),
            "size_mb": self.size_mb and round(self.size_mb, 1),
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
        store = open_storage(storage, runs_dir)
        found |= {study.study: study for study in _in_storage(store, runs_dir, unread)}
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
        wanted = (lambda name: True) if url is None else partial(_names, runs_dir, url)
        here = _in_storage(store, runs_dir, unread, wanted)
        found = {study.study: study for study in here} | found
    if not found and not unread:
        place = "" if storage is None else f", nor in {without_password(storage)}"
        raise ConfigError(f"no studies under {named(runs_dir)}{place}: give --runs-dir")
    return [found[name] for name in sorted(found)], unread


def print_studies(console: Console, studies: list[ListedStudy]) -> None:
    """Prints a line for each study."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("study", overflow="fold")
    for column in ("state", "trials", "best", "MiB", "MB on disk", "began"):
        right = column not in ("state", "began")
        table.add_column(column, no_wrap=True, justify="right" if right else "left")
    for study in studies:
        table.add_row(*_cells(study))
    console.print(table)


def _cells(study: ListedStudy) -> list[str]:
    """Returns a study's line: the metric of its best and the memory of that beside it; - if not known."""
    best = study.best
    return [
        study.study,
        study.state,
        f"{study.ended}/{study.requested}",
        "-" if best is None else f"{best.score:.3f}",
        "-" if best is None else f"{best.peak_memory_mib:.1f}",
        "-" if study.size_mb is None else f"{study.size_mb:.1f}",
        "" if study.began is None else f"{study.began:%Y-%m-%d %H:%M}",
    ]


def _in_storage(
    store: BaseStorage, runs_dir: str, unread: list[str], wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[ListedStudy]:
    """Yields the wanted studies of a storage; adds a line to `unread` for each that cannot be read."""
    for name in study_names(store):
        try:
            if wanted(name):
                yield _listed(read_study(optuna.load_study(study_name=name, storage=store), runs_dir))
        except ConfigError as error:
            if str(error) not in unread:
                unread.append(str(error))


def _listed(study: StudyReading) -> ListedStudy:
    starts = [trial.start for trial in study.trials if trial.start is not None]
    sessions = study.sessions
    began = datetime.fromtimestamp(sessions[0].began_ms / 1000) if sessions else min(starts, default=None)
    return ListedStudy(
        study=study.name,
        state=study.state,
        ended=study.ended,
        requested=study.requested,
        counts=study.counts,
        best=study.best,
        began=began,
        last_end=study.last_end,
        size_mb=None if copy_of(study.folder) is not None else folder_mb(study.folder),
    )


def _names(runs_dir: str, url: str, study: str) -> bool:
    return bool(read_study_file(study, runs_dir).get("storage") == url)
