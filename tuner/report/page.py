"""A study as one HTML file that loads nothing. Imports neither torch nor ray."""

import webbrowser
from contextlib import suppress
from pathlib import Path

from tinytl.errors import ConfigError
from tinytl.files import write_whole
from tuner.bucket.copies import send
from tuner.bucket.database import mlflow_at_hand
from tuner.next_commands import resume_command
from tuner.record.reading import StudyReading, open_study
from tuner.report.content import read_report
from tuner.report.data_section import write_data_table
from tuner.report.render import render

FILE = "report.html"
"""In the study's folder, unless `--out` names another."""
TEMPLATE = "report.html"


def write_report(
    name: str, runs_dir: str, storage: str | None = None, out: str | None = None, trial: str | None = None
) -> Path:
    """Writes the report of a study as it stands; returns its path.

    Raises:
        ConfigError: if there is no such study, or a file of its folder is damaged; and what
            `write_report_of` raises.
    """
    return write_report_of(open_study(name, runs_dir, storage), storage, out, trial)


def write_report_of(
    study: StudyReading, storage: str | None = None, out: str | None = None, trial: str | None = None
) -> Path:
    """Writes the report of a study that was read, and beside it the table of its data; returns its path.

    Args:
        study: with a complete trial.
        storage: as it was named.
        out: file to write; default: `report.html` in the study's folder.
        trial: whose mistakes it shows; default: the best.

    Raises:
        ConfigError: if none of its trials is complete, there is no such trial, or the report cannot be
            written.
    """
    mlflow_at_hand(study.runs_dir)
    path = study.folder / FILE if out is None else Path(out)
    check_place(path)
    _check_has_results(study)
    content = read_report(study, storage, trial)
    table = write_data_table(content["data"], path)
    write_whole(path, render(TEMPLATE, content))
    for file in (path, *table):
        send(file)
    return path


def check_place(path: Path) -> None:
    """Raises ConfigError if no report can be written to `path`."""
    if path.is_dir():
        raise ConfigError(f"--out {path} is a folder: name a file, such as {path / FILE}")
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent} for the report: give --out FILE")


def open_in_browser(address: str) -> bool:
    """Opens an address in the user's browser; returns whether there is one."""
    with suppress(Exception):  # each desktop has its own way to fail
        return webbrowser.open(address)
    return False


def _check_has_results(study: StudyReading) -> None:
    if study.complete:
        return
    states = {state: count for state, count in study.states.items() if state != "waiting"}
    counts = ", ".join(f"{count} {state}" for state, count in states.items()) or "none began"
    failures = [trial.failure for trial in study.trials if trial.state == "failed"]
    why = f"; the last failure: {failures[-1].splitlines()[0]}" if failures and failures[-1] else ""
    raise ConfigError(
        f"study {study.name} has no complete trial to report on ({counts}{why}): "
        f"resume it with `{resume_command(study.name, study.runs_dir)}`"
    )
