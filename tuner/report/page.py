"""A study as one HTML file that loads nothing. Imports neither torch nor ray."""

import shlex
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2

from tinytl.config.names import METRICS
from tinytl.config.train_command import plan_flags
from tinytl.errors import ConfigError
from tinytl.files import write_whole
from tinytl.passwords import without_password
from tuner.bucket.copies import named, send
from tuner.bucket.database import mlflow_at_hand
from tuner.config import STUDY_FILE, StudyConfig
from tuner.findings.sureness import Sureness
from tuner.findings.text import (
    accuracy_text,
    counts_line,
    describe,
    epoch_text,
    hypervolume_line,
    short,
    slowdown_text,
)
from tuner.next_commands import launch_command, resume_command, where_flags
from tuner.record import schema
from tuner.record.reading import StudyReading, open_study
from tuner.record.trials import Trial, known, read_rows
from tuner.report import facts
from tuner.report.data_section import write_data_table
from tuner.report.made_by import commands
from tuner.report.panels import Rows, front_panel, measured_mib, sections
from tuner.report.picture_sections import picture_sections
from tuner.tracking.links import links_or_reason

FILE = "report.html"
"""In the study's folder, unless `--out` names another."""
_HERE = Path(__file__).parent
_NAMED_AT_MOST = 5


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
    if path.is_dir():
        raise ConfigError(f"--out {path} is a folder: name a file, such as {path / FILE}")
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent} for the report: give --out FILE")
    _check_has_results(study)
    content = read_report(study, storage, trial)
    table = write_data_table(content["data"], path)
    write_whole(path, render(content))
    for file in (path, *table):
        send(file)
    return path


def open_in_browser(path: Path) -> bool:
    """Opens a file in the user's browser; returns whether there is one."""
    with suppress(Exception):  # each desktop has its own way to fail
        return webbrowser.open(path.resolve().as_uri())
    return False


def render(content: dict[str, Any]) -> str:
    """Returns the page; all that `content` holds is escaped."""
    from plotly.offline import get_plotlyjs

    loader = jinja2.FileSystemLoader(_HERE)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    own = {key: (_HERE / f"report.{key}").read_text() for key in ("css", "js")}
    return environment.get_template("report.html").render(content | own, plotly=get_plotlyjs())


def read_report(study: StudyReading, storage: str | None, trial: str | None = None) -> dict[str, Any]:
    """Returns all that the page of a study with a complete trial shows.

    `storage`: as it was named. `trial`: whose mistakes it shows; default: the best.
    """
    name, runs_dir, folder, settings = study.name, study.runs_dir, study.folder, study.settings
    rows, notes = _read_folders(study)
    tracking_uri = settings.get("tracking_uri") or StudyConfig(runs_dir=runs_dir).resolved_tracking_uri
    links, no_links = links_or_reason(tracking_uri, name, study.attributes)
    if not (folder / STUDY_FILE).is_file():
        notes.append(f"There is no {named(folder / STUDY_FILE)}: budget and settings are not known.")
    if no_links is not None:
        notes.append(f"No links to MLflow: {without_password(no_links)}")
    measured = measured_mib(rows)
    parameters = list(dict.fromkeys(key for trial in study.trials for key in trial.params))
    where = where_flags(runs_dir, storage)
    sureness = Sureness(study)
    panels = {"front": front_panel(study), "sections": sections(study, rows)}
    panels |= picture_sections(study, trial, where)
    front_rows = _front_rows(study, sureness)
    return panels | {
        "name": name,
        "made": facts.moment(datetime.now()),
        "subtitle": _subtitle(study),
        "state": _state(study, launch_command("--name", name, "--resume", where=where)),
        "notes": notes,
        "counts": counts_line(study).partition(": ")[2],
        "hypervolume": hypervolume_line(study),
        "budget": study.budget_mib,
        "best": _best(study),
        "sureness": sureness.lines(),
        "front_rows": front_rows,
        "has_unsure": any(row["no_better"] for row in front_rows),
        "metric": METRICS[study.metric],
        "has_tests": any(known(trial.test_score) is not None for trial in study.front),
        "parameters": parameters,
        "trials": [_row(trial, parameters, measured, len(rows[trial.name])) for trial in study.trials],
        "links": links,
        "problems": facts.problems(study),
        "facts": facts.data_facts(study)
        | {
            "Search": facts.search_facts(study),
            "Dates": facts.date_facts(study),
        },
        "space": dict(study.attributes.get(schema.PARAMETERS, {})),
        "commands": commands(study),
        "versions": facts.made_with(study),
        "folder": facts.shown_folder(runs_dir, name),
        "space_file": f"{study.attributes.get(schema.SPACE, 'space')}.yaml",
        "where": where,
        "mlflow": facts.in_mlflow(
            name, runs_dir, storage, settings.get("tracking_uri"), links, answers=no_links is None
        ),
    }


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


def _read_folders(study: StudyReading) -> tuple[Rows, list[str]]:
    """Returns each trial's epochs, and what is missing from those that are complete."""
    epochs = int(study.attributes.get(schema.EPOCHS, 0))
    rows: dict[str, list[dict[str, Any]]] = {}
    missing, short_of = [], []
    for trial in study.trials:
        try:
            found = [row for row, _ in read_rows(study.folder / trial.name)]
        except OSError:
            found = []
        rows[trial.name] = found
        if trial.state == "complete" and not found:
            missing.append(trial.name)
        elif trial.state == "complete" and len(found) < epochs:
            short_of.append(trial.name)
    notes = []
    if missing:
        notes.append(
            f"No metrics in the folders of {_listed(missing)}: they have no curves, and no measured memory."
        )
    if short_of:
        notes.append(f"Epochs are missing in the metrics of {_listed(short_of)}: the file is damaged.")
    return rows, notes


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def _subtitle(study: StudyReading) -> str:
    identity = study.attributes
    network, data = (
        identity.get(schema.BACKBONE, "unknown network"),
        identity.get(schema.DATASET, "unknown data"),
    )
    parts = [f"{network} on {data}"]
    if schema.SPACE in identity:
        parts.append(f"space {identity[schema.SPACE]}")
    if schema.EPOCHS in identity:
        parts.append(f"{identity[schema.EPOCHS]} epochs per trial")
    if study.budget_mib is not None:
        parts.append(f"budget {study.budget_mib:g} MiB")
    return " · ".join(parts)


def _state(study: StudyReading, go_on: str) -> dict[str, str]:
    ended = f"{study.ended} of {study.requested} trials ended"
    if study.holder is not None:
        return {
            "kind": "running",
            "text": f"Still running: {ended}. This is how it stood when the report was made.",
        }
    if study.ended < study.requested:
        return {"kind": "unfinished", "text": f"Unfinished: {ended}. Resume it with: {go_on}"}
    return {"kind": "finished", "text": ""}


def _best(study: StudyReading) -> dict[str, Any] | None:
    best = study.best
    if best is None:
        return None
    test = known(best.test_score)
    mean, _, spread = accuracy_text(best).partition(" ")
    return {
        "trial": best.name,
        "label": best.label,
        "accuracy": mean,
        "spread": spread,
        "test": None if test is None else f"{test:.3f}",
        "memory": f"{best.peak_memory_mib:.1f}",
        "slowdown": None if best.plan is None else slowdown_text(best),
        "epoch": epoch_text(best),
        "params": {key: short(value) for key, value in best.params.items()},
    }


def _front_rows(study: StudyReading, sureness: Sureness) -> list[dict[str, Any]]:
    found = []
    for trial in study.front:
        no_better = sureness.no_better(trial)
        test, config = known(trial.test_score), study.folder / trial.name / "config.yaml"
        text = None
        with suppress(OSError):
            text = config.read_text(errors="replace") if config.is_file() else None
        found.append(
            {
                "trial": trial.name,
                "label": trial.label,
                "accuracy": accuracy_text(trial),
                "test": "-" if test is None else f"{test:.3f}",
                "memory": f"{trial.peak_memory_mib:.1f}",
                "slowdown": slowdown_text(trial),
                "epoch": epoch_text(trial),
                "no_better": "" if no_better is None else no_better.name,
                "params": describe(trial.params),
                "config": text,
                "command": " ".join(
                    ["python -m tinytl train --config", shlex.quote(str(config)), *plan_flags(trial.plan)]
                )
                + " --out my_run",
            }
        )
    return found


def _row(trial: Trial, parameters: Sequence[str], measured: dict[str, float], epochs: int) -> dict[str, Any]:
    """Returns a line of the table of all trials, as text."""
    reason = trial.failure or (f"stopped at epoch {trial.stopped_at}" if trial.stopped_at else "")
    figures = (
        (known(trial.score), ".4f"),
        (known(trial.peak_memory_mib), ".1f"),
        (known(trial.slowdown), ".2f"),
        (known(trial.trained_memory_mib), ".1f"),
        (measured.get(trial.name), ".1f"),
        (known(trial.epoch_time_s), ".1f"),
    )
    return {
        "trial": trial.name,
        "label": trial.label,
        "on_front": trial.on_front,
        "state": trial.state,
        "figures": ["" if value is None else format(value, spec) for value, spec in figures] + [str(epochs)],
        "params": [short(trial.params[key]) if key in trial.params else "" for key in parameters],
        "reason": reason,
    }
