"""A study as one HTML file that loads nothing. Imports neither torch nor ray."""

import shlex
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import optuna

from tinytl.errors import ConfigError
from tinytl.files import write_whole
from tuner.config import STUDY_FILE, StudyConfig, read_study_file
from tuner.findings.findings import Findings, read_findings
from tuner.findings.text import counts_line, describe, hypervolume_line, over_seeds, short
from tuner.next_commands import where_flags
from tuner.passwords import without_password
from tuner.record import schema
from tuner.record.claim import holder_of
from tuner.record.results import complete_trials, ended_trials, state_of
from tuner.record.storage import load_study
from tuner.record.trials import TrialRecord, read_rows, trial_records
from tuner.report import facts
from tuner.report.made_by import commands
from tuner.report.panels import Rows, front_panel, measured_mib, sections
from tuner.tracking.links import links_or_reason

FILE = "report.html"
"""In the study's folder, unless `--out` names another."""
_HERE = Path(__file__).parent
_NAMED_AT_MOST = 5


def write_report(name: str, runs_dir: str, storage: str | None = None, out: str | None = None) -> Path:
    """Writes the report of a study as it stands; returns its path.

    Raises:
        ConfigError: where there is no such study, none of its trials is complete, a file of its folder is
            damaged, or the report cannot be written.
    """
    study = load_study(name, runs_dir, storage)
    path = Path(runs_dir) / name / FILE if out is None else Path(out)
    if path.is_dir():
        raise ConfigError(f"--out {path} is a folder: name a file, such as {path / FILE}")
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent} for the report: give --out FILE")
    _check_has_results(study)
    write_whole(path, render(read_report(study, runs_dir, storage)))
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


def read_report(study: optuna.Study, runs_dir: str, storage: str | None) -> dict[str, Any]:
    """Returns all that the page of a study with a complete trial shows."""
    name, folder = study.study_name, Path(runs_dir) / study.study_name
    settings, identity = read_study_file(name, runs_dir), study.user_attrs
    findings, complete = read_findings(study, runs_dir), complete_trials(study)
    driver = holder_of(folder, identity)
    records = trial_records(study, driver_is_gone=driver is None)
    rows, notes = _read_folders(folder, records, int(identity.get("epochs", 0)))
    tracking_uri = settings.get("tracking_uri") or StudyConfig(runs_dir=runs_dir).resolved_tracking_uri
    links, no_links = links_or_reason(tracking_uri, name, identity)
    if not (folder / STUDY_FILE).is_file():
        notes.append(f"There is no {folder / STUDY_FILE}: budget and settings are not known.")
    if no_links is not None:
        notes.append(f"No links to MLflow: {without_password(no_links)}")
    measured = measured_mib(rows)
    parameters = list(dict.fromkeys(key for record in records for key in record.params))
    where = where_flags(runs_dir, storage)
    panels = {"front": front_panel(complete, findings), "sections": sections(study, complete, rows)}
    return panels | {
        "name": name,
        "made": facts.moment(datetime.now()),
        "subtitle": _subtitle(identity, settings),
        "state": _state(findings, driver is not None, f"--name {name} --resume{where}"),
        "notes": notes,
        "counts": counts_line(findings.status).partition(": ")[2],
        "hypervolume": hypervolume_line(findings.status, findings.budget_mib),
        "budget": findings.budget_mib,
        "best": _best(findings),
        "front_rows": _front_rows(findings, folder),
        "has_tests": bool(findings.test_accuracy),
        "parameters": parameters,
        "trials": [_row(record, parameters, measured, len(rows.get(record.name, ()))) for record in records],
        "links": links,
        "problems": facts.problems(study, records),
        "facts": facts.data_facts(identity, settings)
        | {
            "Search": facts.search_facts(identity, settings),
            "Dates": facts.date_facts(records),
        },
        "space": dict(identity.get("parameters", {})),
        "commands": commands(identity, settings),
        "versions": facts.made_with(identity),
        "folder": facts.shown_folder(runs_dir, name),
        "space_file": f"{identity.get('space', 'space')}.yaml",
        "where": where,
        "mlflow": facts.in_mlflow(
            name, runs_dir, storage, settings.get("tracking_uri"), links, answers=no_links is None
        ),
    }


def _check_has_results(study: optuna.Study) -> None:
    trials = study.get_trials(deepcopy=False)
    states = [state_of(trial) for trial in trials]
    if "complete" in states:
        return
    counts = (
        ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states) if s != "waiting") or "none began"
    )
    failures = [str(t.user_attrs[schema.FAILURE]) for t in trials if schema.FAILURE in t.user_attrs]
    why = f"; the last failure: {failures[-1].splitlines()[0]}" if failures and failures[-1] else ""
    raise ConfigError(
        f"study {study.study_name} has no complete trial to report on ({counts}{why}): "
        f"let it go on with `python launch.py --name {study.study_name} --resume`"
    )


def _read_folders(folder: Path, records: Sequence[TrialRecord], epochs: int) -> tuple[Rows, list[str]]:
    """Returns each trial's epochs, and what is missing of those that are complete."""
    rows: dict[str, list[dict[str, Any]]] = {}
    missing, short_of = [], []
    for record in records:
        try:
            found = [row for row, _ in read_rows(folder / record.name)]
        except OSError:
            found = []
        rows[record.name] = found
        if record.state == "complete" and not found:
            missing.append(record.name)
        elif record.state == "complete" and len(found) < epochs:
            short_of.append(record.name)
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


def _subtitle(identity: dict[str, Any], settings: dict[str, Any]) -> str:
    parts = [f"{identity.get('backbone', 'unknown network')} on {identity.get('dataset', 'unknown data')}"]
    if "space" in identity:
        parts.append(f"space {identity['space']}")
    if "epochs" in identity:
        parts.append(f"{identity['epochs']} epochs a trial")
    if "memory_budget_mib" in settings and settings["memory_budget_mib"] is not None:
        parts.append(f"budget {settings['memory_budget_mib']:g} MiB")
    return " · ".join(parts)


def _state(findings: Findings, runs: bool, go_on: str) -> dict[str, str]:
    status = findings.status
    ended = f"{ended_trials(status)} of {status.requested} trials ended"
    if runs:
        return {
            "kind": "running",
            "text": f"Still running: {ended}. This is how it stood when the report was made.",
        }
    if ended_trials(status) < status.requested:
        return {"kind": "unfinished", "text": f"Unfinished: {ended}. Go on with: python launch.py {go_on}"}
    return {"kind": "finished", "text": ""}


def _best(findings: Findings) -> dict[str, Any] | None:
    best = findings.best
    if best is None:
        return None
    confirmed = findings.confirmed.get(best.trial)
    test = findings.test_accuracy.get(best.trial)
    return {
        "trial": best.trial,
        "accuracy": f"{best.accuracy_top1 if confirmed is None else confirmed.mean:.3f}",
        "seeds": None if confirmed is None else over_seeds(confirmed),
        "test": None if test is None else f"{test:.3f}",
        "memory": f"{best.peak_memory_mib:.1f}",
        "epoch": f"{best.epoch_time_s:.1f}",
        "params": {key: short(value) for key, value in best.params.items()},
    }


def _front_rows(findings: Findings, folder: Path) -> list[dict[str, Any]]:
    found = []
    for result in findings.status.pareto:
        confirmed, test = findings.confirmed.get(result.trial), findings.test_accuracy.get(result.trial)
        config = folder / result.trial / "config.yaml"
        text = None
        with suppress(OSError):
            text = config.read_text(errors="replace") if config.is_file() else None
        found.append(
            {
                "trial": result.trial,
                "accuracy": f"{result.accuracy_top1:.3f}" if confirmed is None else over_seeds(confirmed),
                "test": "-" if test is None else f"{test:.3f}",
                "memory": f"{result.peak_memory_mib:.1f}",
                "epoch": f"{result.epoch_time_s:.1f}",
                "params": describe(result.params),
                "config": text,
                "command": f"python -m tinytl train --config {shlex.quote(str(config))} --out my_run",
            }
        )
    return found


def _row(
    record: TrialRecord, parameters: Sequence[str], measured: dict[str, float], epochs: int
) -> dict[str, Any]:
    """Returns a line of the table of all trials, as text."""
    reason = record.failure or (f"stopped at epoch {record.stopped_at}" if record.stopped_at else "")
    figures = (
        (record.accuracy_top1, ".4f"),
        (record.peak_memory_mib, ".1f"),
        (measured.get(record.name), ".1f"),
        (record.epoch_time_s, ".1f"),
    )
    return {
        "trial": record.name,
        "on_front": record.on_front,
        "state": record.state,
        "figures": ["" if value is None else format(value, spec) for value, spec in figures] + [str(epochs)],
        "params": [short(record.params[key]) if key in record.params else "" for key in parameters],
        "reason": reason,
    }
