"""Trials that a study resumes, and whose checkpoint is no longer what was written."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.trial import TrialState

from tinytl.errors import ConfigError
from tinytl.files import check_checksums
from tinytl.runs.directory import RunDirectory
from tuner.bucket.copies import bring_checkpoints
from tuner.record import schema


def set_aside_damaged(study: optuna.Study, folder: Path) -> Iterator[str]:
    """Renames the damaged checkpoint of each trial that was cut off, so that the trial begins anew.

    `folder` is the study's. The file stays beside, as `last.pt.damaged`. Yields a line for each.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        name = trial.user_attrs.get(schema.AGAIN)
        if name is None:
            continue
        bring_checkpoints(folder / name)
        last = RunDirectory(folder / name).last
        reason = _damage(last) if last.is_file() else None
        if reason is not None:
            last.rename(last.with_name(f"{last.name}.damaged"))
            yield f"{reason}: {name} begins anew"


def _damage(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            check_checksums(archive, path)
    except zipfile.BadZipFile as error:
        return f"{path} is damaged ({error})"
    except ConfigError as error:
        return str(error)
    return None
