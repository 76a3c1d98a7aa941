"""The report of a study that runs, served while it runs and made again as the study goes on."""

import hashlib
import time
from collections.abc import Callable

from tinytl.errors import ConfigError
from tinytl.runs.directory import RunDirectory
from tuner.bucket.copies import named
from tuner.next_commands import tuner_command, where_flags
from tuner.record import schema
from tuner.record.reading import StudyReading, open_study
from tuner.report.content import Live, read_report
from tuner.report.page import TEMPLATE
from tuner.report.render import render
from tuner.report.server import PageServer, served

EVERY_S = 5.0
"""How often the study is read, and how often an open page asks."""
SHARE = 0.1
"""At most this share of one core goes into readings and pages: the study needs the machine."""
WATCHED_S = 60.0
"""If no browser has asked for so long, no page is made; the next one that asks gets the last page first."""
LAST_CALL_S = 3 * EVERY_S
"""After the end, open pages have so long to fetch the last page."""


def serve_live(
    name: str,
    runs_dir: str,
    storage: str | None,
    tell: Callable[[str], None],
    opened: Callable[[str], None] = lambda url: None,
    every_s: float = EVERY_S,
    trial: str | None = None,
) -> StudyReading:
    """Serves a study's report until the study ends; returns the last reading.

    Args:
        name: of the study, which runs.
        runs_dir: the folder of all studies.
        storage: as it was named.
        tell: called with each line that a user has to see.
        opened: called with the address, once it answers.
        every_s: how often the study is read.
        trial: whose mistakes the page shows; default: the best.

    Raises:
        ConfigError: if there is no such trial, the study does not run, or is deleted or damaged meanwhile.
        KeyboardInterrupt: after Ctrl-C.
    """
    study = open_study(name, runs_dir, storage)
    if study.holder is None:
        write = tuner_command("report", name, where=where_flags(runs_dir, storage))
        raise ConfigError(
            f"--live: study {name} does not run ({study.ended} of {study.requested} trials ended): "
            f"`{write}` writes its report"
        )
    page = PageServer()
    _make(page, study, storage, trial, every_s)
    with served(page) as url:
        tell(f"{url} (Ctrl-C ends it)")
        opened(url)
        while study.holder is not None:
            begin_s = time.process_time()
            study = _read_again(study, storage)
            if study.holder is None or page.unasked_s < WATCHED_S:
                _make(page, study, storage, trial, every_s)
            time.sleep(max(every_s, (time.process_time() - begin_s) * (1 / SHARE - 1)))
        tell(f"Study {name} no longer runs: {study.ended} of {study.requested} trials ended")
        _last_call(page, every_s)
    return study


def version_of(study: StudyReading) -> str:
    """Returns a text that changes with all that the page of a study shows."""
    digest = hashlib.sha256()
    # A driver's sign of life changes all the time.
    attributes = {key: value for key, value in study.attributes.items() if key != schema.DRIVER}
    runs = study.holder is not None
    for part in (study.trials, study.states, study.requested, runs, study.settings, attributes):
        digest.update(repr(part).encode())
    for trial in study.trials:
        file = RunDirectory(study.folder / trial.name).metrics_file
        digest.update(str(file.stat().st_size if file.is_file() else 0).encode())
    return digest.hexdigest()[:16]


def _make(
    page: PageServer, study: StudyReading, storage: str | None, trial: str | None, every_s: float
) -> None:
    """Publishes the page of a reading, if it is another one."""
    version = version_of(study)
    if version != page.version:
        live = Live(every_s=every_s, version=f'"{version}"', ended=study.holder is None)
        page.publish(render(TEMPLATE, read_report(study, storage, trial, live)), version)


def _read_again(study: StudyReading, storage: str | None) -> StudyReading:
    found = open_study(study.name, study.runs_dir, storage)
    if not found.folder.is_dir():
        raise ConfigError(
            f"the folder of study {study.name} is gone ({named(found.folder)}): nothing to follow"
        )
    return found


def _last_call(page: PageServer, every_s: float) -> None:
    """Waits until an open page has the last one; not at all if none is open."""
    until = time.monotonic() + LAST_CALL_S
    while page.unasked_s < WATCHED_S and page.handed != page.version and time.monotonic() < until:
        time.sleep(every_s / 10)
