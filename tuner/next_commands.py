"""The commands that a study prints for what comes next, as they are typed. Imports nothing heavy."""

import shlex

from tuner.config import StudyConfig
from tuner.passwords import without_password


def where_flags(runs_dir: str, storage: str | None) -> str:
    """Returns the flags that a command about the study needs beside its name."""
    flags = [] if runs_dir == StudyConfig.runs_dir else ["--runs-dir", runs_dir]
    flags += [] if storage is None else ["--storage", storage]
    return without_password("".join(" " + shlex.quote(flag) for flag in flags))


def ui_command(uri: str | None, where: str) -> str:
    """Returns the command that serves a database; None: that of RUNS_DIR, which `where` names in a flag."""
    flag = "" if uri is None else f" --tracking-uri {shlex.quote(without_password(uri))}"
    return f"python -m tuner ui{where}{flag}"


def sync_command(study: str, where: str, uri: str | None = None) -> str:
    """Returns the command that brings a study to `uri`, or to where it was tracked."""
    flag = "" if uri is None else f" --tracking-uri {shlex.quote(without_password(uri))}"
    return f"python -m tuner sync {study}{where}{flag}"
