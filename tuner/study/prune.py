"""Removes checkpoints that a study no longer needs. Imports neither torch nor ray.

A trial keeps its checkpoint if it is on the front, if it may be the best under some budget (`--under-mib` has
all plans, the front only those within `--max-slowdown`), or if it has not ended. No trial returns to a front
that it has left, so a study that is resumed misses nothing.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinytl.errors import ConfigError
from tinytl.plural import counted
from tuner.bucket.copies import at_hand, copy_of, named
from tuner.bucket.store import told
from tuner.next_commands import retrain_command
from tuner.record import schema
from tuner.record.claim import check_free, folder_claimed
from tuner.record.confirmed import FOLDER as CONFIRM
from tuner.record.reading import StudyReading, open_study
from tuner.record.trials import Trial

CHECKPOINTS = (".pt", ".pt.damaged")
"""Ends of the names of checkpoints in a trial's folder."""
ENDED = (*schema.ENDED, "infeasible")


@dataclass(frozen=True, kw_only=True)
class Prunable:
    """What can be removed from a study."""

    study: StudyReading
    trials: Sequence[str]
    """Names of the trials with a checkpoint to remove."""
    files: Sequence[Path]
    """Relative to the study's folder, or to its place in a bucket."""
    size_mb: float
    """Of 1e6 bytes; NaN in a bucket, which does not say."""

    def line(self) -> str:
        """Returns what this is, in a line."""
        size = "" if math.isnan(self.size_mb) else f", {self.size_mb:.1f} MB"
        return f"checkpoints of {counted(len(self.trials), 'trial')} off the front of {self.study.name}{size}"


def prune_study(
    name: str, runs_dir: str, storage: str | None, *, dry_run: bool, tell: Callable[[str], None]
) -> Prunable:
    """Removes the checkpoints of trials off a study's front, unless `dry_run`; returns what that is.

    `tell` is called with each line to print. All else of the trials stays: configuration, metrics, record.

    Raises:
        ConfigError: if there is no such study, a driver runs it, or a file cannot be removed.
    """
    runs_dir = at_hand(runs_dir, name)
    study = open_study(name, runs_dir, storage)
    check_free(study.folder, study.attributes, name)
    if dry_run:
        found = prunable(study)
        tell(f"would remove: {found.line()}")
        return found
    with folder_claimed(study.folder, name):
        found = prunable(open_study(name, runs_dir, storage))  # a driver may have ended meanwhile
        _remove(found)
    tell(f"removed: {found.line()}")
    if found.trials:
        file = study.folder / "TRIAL" / "config.yaml"
        if copy_of(file) is None:
            trains = f"`{retrain_command(str(file))}` trains one again"
        else:  # training reads no bucket
            trains = f"with {named(file)} copied here, `{retrain_command(file.name)}` trains one again"
        tell(f"These trials can no longer be exported or evaluated; {trains}.")
    return found


def prunable(study: StudyReading) -> Prunable:
    """Returns the checkpoints that a study no longer needs."""
    kept = kept_trials(study)
    gone = [trial.name for trial in study.trials if trial.state in ENDED and trial.name not in kept]
    copy = copy_of(study.folder)
    if copy is None:
        every = [path.relative_to(study.folder) for path in _files(study.folder)]
    else:
        with told(f"--runs-dir {copy.bucket.address}"):
            every = [Path(key).relative_to(study.name) for key in copy.bucket.versions(study.name)]
    owners = {file: owner for file in every if (owner := _owner(file, gone)) is not None}
    size_mb = math.nan
    if copy is None:
        size_mb = sum((study.folder / file).stat().st_size for file in owners) / 1e6
    trials = [name for name in gone if name in owners.values()]
    return Prunable(study=study, trials=trials, files=sorted(owners), size_mb=size_mb)


def kept_trials(study: StudyReading) -> set[str]:
    """Returns the complete trials that are on the front, or the best under some budget."""

    def is_beaten(trial: Trial) -> bool:
        return any(
            other.score > trial.score and other.smallest_memory_mib <= trial.smallest_memory_mib
            for other in study.complete
        )

    best = {trial.name for trial in study.complete if not is_beaten(trial)}
    return best | {trial.name for trial in study.front} | ({study.best.name} if study.best else set())


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.pt*") if path.is_file() and not path.is_symlink()]


def _owner(file: Path, trials: Sequence[str]) -> str | None:
    """Returns the trial, of those given, whose checkpoint a file is: its own, or that of a run with another
    seed.
    """
    if not file.name.endswith(CHECKPOINTS):
        return None
    if len(file.parts) == 2:
        return file.parts[0] if file.parts[0] in trials else None
    if len(file.parts) == 3 and file.parts[0] == CONFIRM:
        trial = file.parts[1].rpartition("-seed")[0]
        return trial if trial in trials else None
    return None


def _remove(found: Prunable) -> None:
    folder = found.study.folder
    copy = copy_of(folder)
    if copy is not None:
        with told(f"--runs-dir {copy.bucket.address}"):
            copy.bucket.remove(f"{found.study.name}/{file.as_posix()}" for file in found.files)
    for file in found.files:
        try:
            (folder / file).unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{named(folder / file)} cannot be removed ({error.strerror}): those before it are gone; "
                "prune again when it can"
            ) from None
