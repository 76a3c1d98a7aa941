"""The command lines that made a study, and one command that makes it at once."""

import argparse
import io
import shlex
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import fields
from itertools import groupby
from typing import Any

from tinytl.passwords import without_password
from tuner.config import OF_ONE_CALL, StudyConfig, build_parser
from tuner.record.reading import StudyReading

_SAYS_NOTHING = OF_ONE_CALL - {"warm_start", "from_config"}
"""Flags of a later command that change nothing about the study."""
_LAST_ONE_COUNTS = {
    "trials",
    "confirm",
    "race_share",
    "workers",
    "max_failures",
    "gpus_per_trial",
    "pack",
    "address",
    "tracking_uri",
    "experiment",
    "storage",
    "runs_dir",
    "data_dir",
    "download",
    "skip_broken",
    "exclude",
    "tensorboard",
    "system_metrics",
}
"""Flags that decide how much of the same search is done, and where, but not what is searched."""


def commands(study: StudyReading) -> dict[str, str]:
    """Returns the commands that made a study, by what they did; each command has its own line."""
    lines = [session.command for session in study.sessions]
    if not lines and study.settings.get("command"):  # an older version made the study
        lines = [shlex.join(["python", *study.settings["command"]])]
    # A repeated command, with other code or on another device, is shown once.
    lines = [line for line, _ in groupby(map(without_password, lines))]
    first = [line for line in lines[:1] if "--resume" not in shlex.split(line)]
    later = lines[len(first) :]
    found = {"The command": first[0]} if first else {}
    if later:
        found["Resumed with"] = "\n".join(later)
    whole = at_once(first[0], later) if first and later else None
    if whole is not None:
        found["The whole study at once"] = whole
    return found


def at_once(first: str, later: Sequence[str]) -> str | None:
    """Returns one command for the whole study; None if a later command changed what is searched."""
    whole = _given(first)
    if whole is None:
        return None
    # A time budget ends one call; a later one resumed the study.
    whole.pop("time_budget", None)
    unset = {field.name: field.default for field in fields(StudyConfig)}
    for command in later:
        given = _given(command)
        if given is None:
            return None
        for key, value in given.items():
            if key in _LAST_ONE_COUNTS:
                whole[key] = value
            elif key == "settings":
                if not set(value) <= set(whole.get(key, ())):
                    return None
            elif key not in _SAYS_NOTHING and value != whole.get(key, unset[key]):
                return None
    return shlex.join(["python", "launch.py", *_flags(whole)])


def _given(command: str) -> dict[str, Any] | None:
    """Returns the flags that a command names; None if launch.py no longer accepts it."""
    unset = argparse.Namespace(**{field.name: None for field in fields(StudyConfig)})  # not the defaults
    try:
        with redirect_stderr(io.StringIO()):
            values = vars(build_parser().parse_args(shlex.split(command)[2:], unset))
    except SystemExit:
        return None
    del values["list_spaces"]
    return {key: value for key, value in values.items() if value is not None}


def _flags(given: Mapping[str, Any]) -> list[str]:
    words = []
    for key, value in given.items():
        flag = "--" + key.replace("_", "-")
        if key == "settings":
            words += [word for setting in value for word in ("--set", setting)]
        elif value is True:
            words.append(flag)
        else:
            words += [flag, str(value).removesuffix(".0") if isinstance(value, float) else str(value)]
    return words
