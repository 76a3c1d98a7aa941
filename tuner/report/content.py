"""All that the report's page shows of one reading of a study, as text and figures."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tinytl.config.names import METRICS
from tinytl.passwords import without_password
from tinytl.plural import counted
from tuner.bucket.copies import named
from tuner.config import STUDY_FILE, StudyConfig
from tuner.findings.sureness import Sureness
from tuner.findings.text import counts_line, hypervolume_line
from tuner.next_commands import launch_command, tuner_command, where_flags
from tuner.record import schema
from tuner.record.class_counts import ClassCounts, read_class_counts
from tuner.record.identity import network_in_words
from tuner.record.reading import StudyReading
from tuner.record.trials import known
from tuner.report import facts, tables
from tuner.report.folders import Rows, read_folders
from tuner.report.made_by import commands
from tuner.report.panels import front_panels, sections
from tuner.report.picture_sections import picture_sections
from tuner.tracking.links import links_or_reason


@dataclass(frozen=True, kw_only=True)
class Live:
    """What a page that is served while its study runs says of itself to its script."""

    every_s: float
    """How often it asks whether it has changed."""
    version: str
    """Another page has another one."""
    ended: bool
    """Whether this is the last one."""


def read_report(
    study: StudyReading, storage: str | None, trial: str | None = None, live: Live | None = None
) -> dict[str, Any]:
    """Returns all that the page of a study shows, by the names in `report.html`.

    Args:
        study: one reading.
        storage: as it was named.
        trial: whose mistakes it shows; default: the best.
        live: set if the page is served.

    Raises:
        ConfigError: for a file in the study's folder that is damaged, or if there is no such trial.
    """
    rows, notes = read_folders(study)
    sureness, classes = Sureness(study), read_class_counts(study.folder)
    return {
        "live": live,
        "name": study.name,
        "made": facts.moment(datetime.now()),
        "subtitle": _subtitle(study),
        "budget": study.budget_mib,
        "metric": METRICS[study.metric],
        "sections": sections(study, rows),
        "commands": commands(study),
        "versions": facts.made_with(study),
        "folder": facts.shown_folder(study.runs_dir, study.name),
        "space_file": f"{study.attributes.get(schema.SPACE, 'space')}.yaml",
        **_first(study, sureness),
        **_tables(study, sureness, rows, classes),
        **_about(study, rows, classes),
        **picture_sections(study, trial, where_flags(study.runs_dir, storage)),
        **_beside(study, storage, notes, live is not None),
    }


def _first(study: StudyReading, sureness: Sureness) -> dict[str, Any]:
    return {
        "best": tables.best_of(study),
        "sureness": sureness.lines(),
        "fronts": front_panels(study),
        "counts": counts_line(study).partition(": ")[2],
        "hypervolume": hypervolume_line(study),
    }


def _tables(
    study: StudyReading, sureness: Sureness, rows: Rows, classes: ClassCounts | None
) -> dict[str, Any]:
    front = tables.front_rows(study, sureness)
    parameters = list(dict.fromkeys(key for trial in study.trials for key in trial.params))
    return {
        "front_rows": front,
        "has_unsure": any(row["no_better"] for row in front),
        "has_tests": any(known(trial.test_score) is not None for trial in study.complete),
        "baselines": tables.baseline_rows(study, sureness.gains),
        "running": tables.running_rows(study, rows),
        "parameters": parameters,
        "trials": [tables.trial_row(trial, parameters, rows[trial.name]) for trial in study.trials],
        "classes": tables.class_rows(classes),
        "splits": [] if classes is None else [facts.SPLITS[split] for split in classes.images],
        "csv": tables.csv_links(study, sureness, classes),
        "problems": facts.problems(study),
    }


def _about(study: StudyReading, rows: Rows, classes: ClassCounts | None) -> dict[str, Any]:
    groups = {
        "Search": facts.search_facts(study),
        "Time": facts.date_facts(study) | facts.time_facts(study, rows),
    }
    return {
        "facts": facts.data_facts(study, classes) | groups,
        "space": dict(study.attributes.get(schema.PARAMETERS, {})),
    }


def _beside(study: StudyReading, storage: str | None, notes: list[str], live: bool) -> dict[str, Any]:
    """Returns the state, the notes, and what leads elsewhere: commands and pages of MLflow."""
    name, runs_dir, settings = study.name, study.runs_dir, study.settings
    tracking_uri = settings.get("tracking_uri") or StudyConfig(runs_dir=runs_dir).resolved_tracking_uri
    links, no_links = links_or_reason(tracking_uri, name, study.attributes)
    if not (study.folder / STUDY_FILE).is_file():
        notes = [
            *notes,
            f"There is no {named(study.folder / STUDY_FILE)}: budget and settings are not known.",
        ]
    if no_links is not None:
        notes = [*notes, f"No links to MLflow: {without_password(no_links)}"]
    where = where_flags(runs_dir, storage)
    mlflow_uri = settings.get("tracking_uri")
    return {
        "state": _state(study, launch_command("--name", name, "--resume", where=where), live),
        "notes": notes,
        "links": links,
        "where": where,
        "finish": tuner_command("finish", name, where=where),
        "compare": tuner_command("compare", name, "OTHER", where=where, then=["--out", "comparison"]),
        "mlflow": facts.in_mlflow(name, runs_dir, storage, mlflow_uri, links, answers=no_links is None),
    }


def _subtitle(study: StudyReading) -> str:
    identity = study.attributes
    parts = [f"{network_in_words(identity)} on {identity.get(schema.DATASET, 'unknown data')}"]
    if schema.SPACE in identity:
        parts.append(f"space {identity[schema.SPACE]}")
    if schema.EPOCHS in identity:
        parts.append(f"{counted(identity[schema.EPOCHS], 'epoch')} per trial")
    if study.budget_mib is not None:
        parts.append(f"budget {study.budget_mib:g} MiB")
    return " · ".join(parts)


def _state(study: StudyReading, go_on: str, live: bool) -> dict[str, str]:
    ended = f"{study.ended} of {study.requested} trials ended"
    if study.holder is not None:
        how = "This page follows it." if live else "This is how it stood when the report was made."
        return {"kind": "running", "text": f"Still running: {ended}. {how}"}
    if study.ended < study.requested:
        return {"kind": "unfinished", "text": f"Unfinished: {ended}. Resume it with: {go_on}"}
    return {"kind": "finished", "text": ""}
