"""What a study must be to be resumed: there, free, whole enough, and the same as it was."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinytl.config.flat import with_defaults
from tinytl.config.names import LITE_RATIO
from tinytl.errors import ConfigError
from tinytl.passwords import without_password
from tuner.bucket.copies import named
from tuner.config import BEFORE_THE_FLAG, STUDY_FILE, StudyConfig
from tuner.next_commands import tuner_command, where_flags
from tuner.prepared import PreparedStudy
from tuner.record import schema, storage
from tuner.record.claim import check_free, is_empty
from tuner.record.identity import identity_of
from tuner.record.journal import journal_of
from tuner.record.reading import read_study
from tuner.record.sessions import read_sessions
from tuner.trial_config import other_lite_ratio

if TYPE_CHECKING:
    import optuna


def study_to_resume(config: StudyConfig, name: str) -> "optuna.Study | None":
    """Returns the study that `--resume` means, or None for a new one; checks that it or the name is free."""
    stored = storage.study_exists(config, name)
    if not config.resume and (stored or not is_empty(Path(config.runs_dir) / name)):
        in_storage = stored and config.storage is not None
        where = (
            f"in {without_password(config.storage or '')}"
            if in_storage
            else f"under {named(config.runs_dir)}"
        )
        raise ConfigError(f"study {name} exists {where}: add --resume to continue it, or change --name")
    if not config.resume:
        return None
    begun = (Path(config.runs_dir) / name / STUDY_FILE).is_file()
    if not stored:
        _check_was_being_made(config, name, begun)
        return None
    study = storage.load_study(name, config.runs_dir, config.storage)
    if not begun and schema.SPACE not in study.user_attrs:
        remove = tuner_command("delete", name, where=where_flags(config.runs_dir))
        raise ConfigError(
            f"--resume: study {name} was killed while it was being made, and its folder is gone: remove the "
            f"rest with `{remove}`, and start it anew"
        )
    # Before Ray is started: a process that is refused later waits for that.
    check_free(Path(config.runs_dir) / name, study.user_attrs, name)
    return study


def _check_was_being_made(config: StudyConfig, name: str, begun: bool) -> None:
    """Checks that a study that its storage does not have was killed just before it was recorded."""
    folder = Path(config.runs_dir) / name
    trials = sum(1 for _ in folder.glob("*/config.yaml"))
    if not begun:
        raise ConfigError(
            f"--resume: no study {name} under {named(config.runs_dir)}; leave --resume out to start it"
        )
    if trials:
        where = without_password(config.storage or named(journal_of(config.runs_dir, name)))
        raise ConfigError(
            f"--resume: {where} has no study {name}, though {named(folder)} has {trials} of its trials: "
            "bring the record back from a copy, or start another study (--from-config takes a trial's "
            "config.yaml)"
        )


def check_same_study(prepared: PreparedStudy, study: "optuna.Study") -> None:
    """Raises ConfigError if a study that is resumed is not what its record says; names what has changed."""
    was = study.user_attrs
    if schema.DATASET in was:
        was = {schema.EXPERIMENT: was[schema.DATASET]} | was  # the study was begun before this flag existed
    if study.get_trials(deepcopy=False):
        was = BEFORE_THE_FLAG | was
    now = json.loads(json.dumps(identity_of(prepared)))  # as the storage returns it: lists for tuples
    older = bool(now[schema.SETTINGS].keys() - was.get(schema.SETTINGS, {}).keys())
    lite_ratio = prepared.base.lr_ratio.lite_residual
    if schema.SETTINGS in was:
        settings = _as_written_now(was[schema.SETTINGS], now[schema.SETTINGS])
        lite_ratio, settings[LITE_RATIO] = settings[LITE_RATIO], lite_ratio  # what it says may mean the same
        was = was | {schema.SETTINGS: settings}
    for key, value in now.items():
        if key not in was and not study.get_trials(deepcopy=False):
            continue  # killed while it was being made
        if key == schema.IMAGES_DIGEST and None in (was.get(key), value):
            continue
        if key not in was:
            raise ConfigError(
                f"--resume: study {prepared.name} was made by an older version, which kept no {key}: start "
                "another study; --warm-start tries its front first"
            )
        change = _change(key, was[key], value)
        if change:
            if not (prepared.folder / STUDY_FILE).is_file():  # its flags are gone: all must be given again
                raise ConfigError(
                    f"--resume: {prepared.folder} has no {STUDY_FILE} with the flags of the study, which has "
                    f"{change}: give the flags that began it{_first_command(was)}"
                )
            begun = ", which an older version began," if older else ""
            raise ConfigError(
                f"--resume: study {prepared.name}{begun} has {change}: leave that out, or start another "
                f"study (--warm-start {prepared.name} tries its front first)"
            )
    _check_lite_ratio(prepared, lite_ratio)
    ended = read_study(study).ended
    if ended > prepared.config.trials:
        raise ConfigError(f"--trials {prepared.config.trials}: study {prepared.name} has {ended} already")


def _as_written_now(was: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a study's settings with the fields that did not exist when it began: each had its default."""
    filled = with_defaults(was)
    return {name: filled[name] for name in (*was, *now)}


def _check_lite_ratio(prepared: PreparedStudy, was: float | None) -> None:
    """Raises ConfigError if lite residuals of an older study learn at another rate today: its settings say so
    by themselves, as a space's own ratio is no setting.
    """
    ratio = other_lite_ratio(prepared.space, prepared.base, was)
    if ratio is not None:
        raise ConfigError(
            f"--resume: an older version began study {prepared.name}, with {LITE_RATIO} {was}, which today "
            f"is {ratio:g}: start another study (--warm-start {prepared.name} tries its front first)"
        )


def _first_command(attributes: Mapping[str, Any]) -> str:
    sessions = read_sessions(attributes)
    return f": {without_password(sessions[0].command)}" if sessions else ""


def _change(key: str, was: Any, now: Any) -> str | None:
    """Returns what has changed, such as `epochs 3, not 5`; of several parameters the first."""
    if was == now:
        return None
    if key == schema.SETTINGS:
        was, now = dict(was), dict(now)
        changed = next((k for k in (*was, *now) if was.get(k) != now.get(k)), None)
        if changed is None:  # a field that there is no more, and that was unset
            return None
        return f"{changed} {was.get(changed)}, not {now.get(changed)}"
    if key == schema.IMAGES_DIGEST:
        return f"as many images, but other ones (digest {was}, not {now})"
    if not isinstance(was, dict):
        return f"{key} {was}, not {now}"
    names = [name for name in (*was, *now) if was.get(name) != now.get(name)]
    before, after = was.get(names[0]), now.get(names[0])
    kind = "the parameter" if key == schema.PARAMETERS else "the fixed"
    if names[0] not in was:
        return f"not {kind} {names[0]} ({after})"
    return f"{kind} {names[0]} {before}, not {'without it' if names[0] not in now else after}"
