"""The sections that show pictures of the study's data set. Imports neither torch nor ray."""

from typing import Any

from tinytl.errors import ConfigError
from tuner.findings.study_pictures import StudyPictures, study_pictures
from tuner.next_commands import tuner_command
from tuner.record.reading import StudyReading
from tuner.record.trials import Trial
from tuner.report.data_section import data_section
from tuner.report.mistakes import mistakes_section
from tuner.report.thumbnails import Thumbnails


def picture_sections(study: StudyReading, trial: str | None, where: str) -> dict[str, Any]:
    """Returns what the page shows of a trial's mistakes, and of the data.

    Args:
        study: without a complete trial, there is nothing of mistakes.
        trial: whose mistakes; default: of the best, or if none fits the budget, of the most accurate.
        where: flags that say where the study is.

    Raises:
        ConfigError: if there is no such trial.
    """
    chosen = _chosen(study, trial)
    pictures: StudyPictures | None = None
    why_none = ""
    try:
        pictures = study_pictures(study)
    except ConfigError as error:
        why_none = str(error)
    thumbnails = Thumbnails({} if pictures is None else pictures.parts)
    mistakes: dict[str, Any] = {"found": None, "notes": ["Shown once a trial is complete."]}
    if chosen is not None:
        mistakes = mistakes_section(study, chosen, pictures, why_none, thumbnails)
        mistakes["command"] = tuner_command("report", study.name, where=where, then=["--trial", "TRIAL"])
    return {"mistakes": mistakes, "data": data_section(study, pictures, why_none, thumbnails)}


def _chosen(study: StudyReading, trial: str | None) -> Trial | None:
    if trial is not None:
        return study.trial(trial)
    return study.best or max(study.complete, key=lambda one: one.score, default=None)
