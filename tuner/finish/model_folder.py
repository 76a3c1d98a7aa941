"""The folder of a study's finished model: whole or missing, here and in a bucket."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import shorten

from tinytl.errors import ConfigError
from tinytl.export.folder import check_is_free
from tinytl.files import naming_the_file
from tinytl.plural import counted
from tinytl.runs.exported import ABOUT_FILE, CONFIG_FILE, MODEL_FILE, SAFETENSORS_FILE, TRAINED_ON
from tuner.bucket.copies import copy_of, named
from tuner.bucket.whole_folders import bring_whole, is_sent, send_whole, unmark
from tuner.findings.best import choose_best
from tuner.finish.card import CARD, TEST
from tuner.finish.outcome import PLAN, plan_of
from tuner.finish.training import FOLDER as RUNS
from tuner.finish.wish import Wish
from tuner.record import schema
from tuner.record.reading import StudyReading
from tuner.tracking.model_run import FinishedModel

MODEL = "model"
"""In the study's folder: the finished model."""
OWN = (CARD, TEST, ABOUT_FILE, CONFIG_FILE, SAFETENSORS_FILE, MODEL_FILE)
"""Every file of a model."""
NAMED_CHARS = 200
"""How much a line names of what lies in a folder."""


def is_made(study: StudyReading, check_claim: Callable[[], None]) -> bool:
    """Whether a study has a finished model, which is then here and in its bucket.

    An old one that a killed `--replace` had set aside comes back.

    `check_claim`: called before the bucket is written (`finish_claimed`).

    Raises:
        ConfigError: for a folder of that name that holds something else, or cannot be written.
    """
    folder = study.folder / MODEL
    _put_back(folder)  # after a kill
    if bring_whole(folder, ABOUT_FILE):
        if is_sent(folder / ABOUT_FILE):
            return True
        if _is_of(study, folder):  # of a call that was cut off
            check_claim()
            send_whole(folder, ABOUT_FILE)
            return True
    if copy_of(folder) is not None:
        shutil.rmtree(folder, ignore_errors=True)  # a part, or of a study of that name that was deleted
    try:
        check_is_free(folder)
    except ConfigError as error:
        raise ConfigError(str(error).removeprefix("--out ")) from None  # before hours of training
    return False


def _is_of(study: StudyReading, folder: Path) -> bool:
    """Whether a model is of this study, not of one that had its name before."""
    try:
        about = json.loads((folder / ABOUT_FILE).read_text())
        return bool(about[schema.STUDY_ID] == study.attributes.get(schema.STUDY_ID))
    except (OSError, ValueError, TypeError, KeyError):
        return False


def read_model(study: StudyReading) -> FinishedModel:
    """Returns the finished model of a study, which is there.

    Raises:
        ConfigError: for a `model.json` that is damaged or lacks what is read of it.
    """
    folder = study.folder / MODEL
    try:
        about = json.loads((folder / ABOUT_FILE).read_text())
        training = study.folder / RUNS / str(about["run"])
        model = FinishedModel(folder=folder, about=about, card=(folder / CARD).read_text(), training=training)
        _check(model)
    except (OSError, ValueError, TypeError, KeyError):
        raise ConfigError(
            f"{named(folder)} is damaged or no finished model: move it away, or add --replace"
        ) from None
    return model


def _check(model: FinishedModel) -> None:
    """Raises KeyError or TypeError if `model.json` lacks what is read of it, or has it as another type."""
    kinds = {"trial": str, "epoch": int, "epochs": int, "backbone": str, "command": str}
    if not all(isinstance(model.about[name], kind) for name, kind in kinds.items()):
        raise TypeError
    _trained_on_val(model)
    _ = model.digest


def in_words(model: FinishedModel) -> str:
    """Returns what a model is, such as `s-001 after 4 epochs on training and validation images`."""
    too = " on training and validation images" if _trained_on_val(model) else ""
    return f"{model.about['trial']} after {counted(model.about['epoch'], 'epoch')}{too}"


def differences(study: StudyReading, model: FinishedModel, wish: Wish) -> list[str]:
    """Returns the flags of a call that would have made another model than the one that is there.

    Raises:
        ConfigError: if another trial is asked for that cannot be chosen, as `choose_best`.
    """
    found = []
    if wish.trial is not None and wish.trial != model.about["trial"]:
        choose_best(study, wish.under_mib, wish.trial)
        found.append(f"--trial {wish.trial}")
    if wish.under_mib is not None:
        best = choose_best(study, wish.under_mib, wish.trial)
        same_plan = model.about.get(PLAN) in (None, plan_of(best.config))
        if best.trial.name != model.about["trial"] or not same_plan:
            found.append(
                f"--under-mib {wish.under_mib:g} ({best.trial.name}, {best.trial.peak_memory_mib:.1f} MiB)"
            )
    if wish.epochs is not None and wish.epochs != model.about["epochs"]:
        found.append(f"--epochs {wish.epochs}")
    if wish.val_too and not _trained_on_val(model):
        found.append("--val-too")
    return found


def _trained_on_val(model: FinishedModel) -> bool:
    return "val" in model.about.get(TRAINED_ON, ())


def check_only_own(folder: Path) -> None:
    """Raises ConfigError, naming them, if a model's folder holds what this program did not put there."""
    foreign = (
        sorted(path.name for path in folder.iterdir() if path.name not in OWN) if folder.is_dir() else []
    )
    if foreign:
        raise ConfigError(
            f"{named(folder)} holds what is not the model's: {shorten(', '.join(foreign), NAMED_CHARS)}: "
            "move it elsewhere, as --replace removes the folder"
        )


@contextmanager
def set_aside(folder: Path) -> Iterator[None]:
    """Moves an old model out of the way for the block, which writes a new one; removes it at the end.

    If the block fails, the old one comes back; after a kill within the block, in the next call (`is_made`).

    Raises:
        ConfigError: if the folder holds what is not the model's, or cannot be moved.
    """
    if not folder.exists():
        yield
        return
    check_only_own(folder)
    unmark(folder, ABOUT_FILE)  # else the old one in the bucket would look like the new one here
    aside = _aside(folder)
    with naming_the_file(folder):
        folder.rename(aside)
    try:
        yield
    except BaseException:
        _put_back(folder)
        raise
    _put_back(folder)


def _aside(folder: Path) -> Path:
    """Returns where a model waits that is being replaced: no name that counts as left over after a while."""
    return folder.with_name(f".{folder.name}.replaced")


def _put_back(folder: Path) -> None:
    """Puts a model that was set aside back if there is no new one, else removes it.

    Raises:
        ConfigError: if it cannot be moved.
    """
    aside = _aside(folder)
    if (folder / ABOUT_FILE).is_file():
        with suppress(OSError):
            (aside / ABOUT_FILE).unlink(missing_ok=True)  # what is half removed never comes back
            shutil.rmtree(aside)
    elif (aside / ABOUT_FILE).is_file() and not folder.exists():
        with naming_the_file(folder):
            aside.rename(folder)
