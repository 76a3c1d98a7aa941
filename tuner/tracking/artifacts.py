"""The files of a study's runs: the front's configurations and checkpoints, pictures, tables, commands.

A file with the same content is not written again: each run's tag `artifacts` keeps what its files were made
from.
"""

import csv
import hashlib
import io
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinytl.runs.directory import RunDirectory
from tuner.bucket.copies import bring_checkpoints
from tuner.findings.kept_importance import known_importance
from tuner.record.trials import CURVE_FILE
from tuner.tracking.runs import StudyRuns
from tuner.tracking.summary import StudySummary, table

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

OF_A_TRIAL = ("config.yaml", CURVE_FILE, "last.pt")
"""Smallest first. `python -m tinytl evaluate` and `predict` read the checkpoint."""
TAG = "artifacts"
TABLE = "trials.json"
MISTAKES = "mistakes"
"""Folder with what the best trial gets wrong."""
_FORM = 2
"""A new number once files are made differently from the same results."""


def sync_trial_artifacts(client: "MlflowClient", run: "Run", folder: Path) -> bool:
    """Writes what a trial's folder holds to its run; returns whether anything was written."""
    bring_checkpoints(folder)
    files = {name: folder / name for name in OF_A_TRIAL if (folder / name).is_file()}
    wanted = {name: _digest(path.read_bytes()) for name, path in files.items()}
    known = _known(client, run)
    missing = [name for name in wanted if known.get(name) != wanted[name]]
    for name in missing:
        client.log_artifact(run.info.run_id, str(files[name]))
        known[name] = wanted[name]
        client.set_tag(run.info.run_id, TAG, json.dumps(known))
    return bool(missing)


def sync_study_artifacts(runs: StudyRuns, summary: StudySummary, folder: Path) -> bool:
    """Writes pictures, tables, the space and the commands to the study's run; returns whether it did."""
    run_id = runs.parent.info.run_id
    spaces = {path.name: path.read_text() for path in sorted(folder.glob("*.yaml"))}
    sessions = [session.to_json() for session in runs.labels.sessions]
    made_from = json.dumps(
        [_FORM, summary.title, summary.rows, spaces, sessions, _judged(summary)], default=str
    )
    digest = _digest(made_from.encode())
    known = _known(runs.client, runs.parent)
    if known and set(known.values()) == {digest}:
        return False
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary)
        _write_texts(made, summary, spaces)
        tables = [TABLE]
        if summary.study.complete:
            _write_pictures(made, summary)
            tables += _write_mistakes(made, summary)
        runs.client.log_artifacts(run_id, str(made))
        names = sorted(path.name for path in made.iterdir())
    shown = json.dumps([{"path": path, "type": "table"} for path in tables])
    tags = {TAG: json.dumps(dict.fromkeys(names, digest)), "mlflow.loggedArtifacts": shown}
    runs.log(run_id, tags=tags)
    return True


def _write_texts(made: Path, summary: StudySummary, spaces: Mapping[str, str]) -> None:
    names, cells = table(summary)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([names, *cells])
    (made / "trials.csv").write_text(text.getvalue())
    # In the form of MLflow's log_table: its pages show it as a table.
    (made / TABLE).write_text(json.dumps({"columns": names, "data": cells}))
    for name, content in spaces.items():
        (made / name).write_text(content)
    commands = [session.command for session in summary.labels.sessions] or [summary.labels.command]
    (made / "commands.txt").write_text("\n".join(commands) + "\n")
    importance = known_importance(summary.study)
    if importance is not None:
        as_dicts = {objective: own._asdict() for objective, own in importance.items()}
        (made / "importance.json").write_text(json.dumps(as_dicts, indent=2) + "\n")


def _write_pictures(made: Path, summary: StudySummary) -> None:
    # The import needs seconds, and a study may already be in line.
    from tuner.pictures.interactive import front_figure
    from tuner.pictures.still import plot_front

    complete, budget_mib = summary.study.complete, summary.study.budget_mib
    plot_front(complete, summary.title, budget_mib, made / "front.png")
    figure = front_figure(complete, summary.title, budget_mib)
    figure.write_html(made / "front.html", include_plotlyjs=True, div_id="front")


def _write_mistakes(made: Path, summary: StudySummary) -> list[str]:
    """Returns the paths of the tables that were written."""
    from tuner.pictures.mistakes import TABLE as PER_CLASS
    from tuner.pictures.mistakes import write_mistakes

    wrote = write_mistakes(summary.study, made / MISTAKES, summary.title)
    return [f"{MISTAKES}/{PER_CLASS}"] if wrote else []


def _judged(summary: StudySummary) -> str | None:
    """Returns a digest of what the best trial said of the validation images, if it has kept it."""
    best = summary.study.best
    path = None if best is None else RunDirectory(summary.study.folder / best.name).val_judgements
    return (
        None if best is None or path is None or not path.is_file() else best.name + _digest(path.read_bytes())
    )


def _known(client: "MlflowClient", run: "Run") -> dict[str, Any]:
    """Returns what a run's tag says about the files that the run really has."""
    told = run.data.tags.get(TAG)
    if told is None:
        return {}
    there = {file.path for file in client.list_artifacts(run.info.run_id)}
    return {name: digest for name, digest in json.loads(told).items() if name in there}


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
