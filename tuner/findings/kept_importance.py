"""What decides, kept beside a study for as long as the trials that are looked at stay the same.

Finding it out needs seconds, whatever the number of trials; about half of them to import scikit-learn.
Imports neither torch nor ray.
"""

import hashlib
import json
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from tinytl.errors import ConfigError
from tinytl.files import write_whole
from tuner.findings import importance
from tuner.findings.importance import Importance, looked_at, parameter_importance
from tuner.record.reading import StudyReading

FILE = "what_decides.json"
"""In the study's folder."""


def known_importance(study: StudyReading) -> dict[str, Importance] | None:
    """Returns `parameter_importance`, from the study's folder if it was found out for the same trials.

    It is the same result to the last digit. If the folder cannot be written, it is found out each time.
    """
    path, of = study.folder / FILE, _digest(study)
    kept = _read(path, of)
    if kept is not None:
        return kept
    found = parameter_importance(study)
    if found is not None and path.parent.is_dir():
        by_objective = {objective: own._asdict() for objective, own in found.items()}
        with suppress(ConfigError):  # another user's folder: not an obstacle to a look at a study
            write_whole(path, json.dumps({"of": of, "importance": by_objective}) + "\n")
    return found


def _read(path: Path, of: str) -> dict[str, Importance] | None:
    """Returns what a file holds for the trials of this digest, None for anything else that it may hold."""
    try:
        held = json.loads(path.read_text())
        if held["of"] != of:
            return None
        return {objective: Importance(**own) for objective, own in held["importance"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _digest(study: StudyReading) -> str:
    """Returns a digest of all on which what decides depends."""
    fits = [importance.TREES, importance.TREES_OF_RESAMPLES, importance.RESAMPLES, study.searches_memory]
    made_by = [version(package) for package in ("optuna", "scikit-learn")]
    trials = [
        [trial.name, trial.score, trial.peak_memory_mib, dict(trial.params)] for trial in looked_at(study)
    ]
    text = json.dumps([fits, made_by, trials], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
