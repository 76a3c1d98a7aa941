"""The command line that trains a given configuration."""

import dataclasses
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from tinytl.config.flags import SECTIONS, flag_of
from tinytl.config.plan import PLANNED_FIELDS, Plan
from tinytl.config.train_config import LrRatio, TrainConfig

PROGRAM = ("python", "-m", "tinytl", "train")
LINE_WIDTH = 78


def train_flags(config: TrainConfig) -> list[tuple[str, str]]:
    """Returns flags of `python -m tinytl train` with their values, for the fields that differ from their
    default.

    They parse to an equal configuration.
    """
    default = TrainConfig()
    flags = []
    for name in " ".join(SECTIONS.values()).split():
        value = getattr(config, name)
        if value != getattr(default, name) or (name == "resolution" and "/" in config.backbone):
            flags.append((flag_of(name), _text(value)))
    for field in dataclasses.fields(LrRatio):
        ratio = getattr(config.lr_ratio, field.name)
        if ratio != getattr(default.lr_ratio, field.name):
            flags.append(("--lr-ratio", f"{field.name}={_text(ratio)}"))
    return flags


def plan_flags(plan: Plan | None) -> list[str]:
    """Returns the words that let `python -m tinytl train` run by a plan; none if there is none."""
    if plan is None:
        return []
    fields = ((name, getattr(plan, name)) for name in PLANNED_FIELDS)
    return [word for name, value in fields if value is not None for word in (flag_of(name), _text(value))]


def train_command(config: TrainConfig, out: str) -> list[str]:
    """Returns the words of the command that trains `config` in the folder `out`."""
    pairs = [*train_flags(config), ("--out", out)]
    return [*PROGRAM, *(word for pair in pairs for word in _words(pair))]


def folded(command: Sequence[str]) -> str:
    """Returns a command as a shell reads it, over several lines if it is long."""
    return " \\\n    ".join(_lines([shlex.join(part) for part in _parts(command)]))


def _parts(command: Sequence[str]) -> Iterator[list[str]]:
    part: list[str] = []
    for word in command:
        if word.startswith("--") and part:
            yield part
            part = []
        part.append(word)
    yield part


def _lines(parts: Sequence[str]) -> Iterator[str]:
    line = ""
    for part in parts:
        if line and len(line) + len(part) + 1 > LINE_WIDTH:
            yield line
            line = ""
        line = f"{line} {part}".lstrip()
    yield line


def _words(pair: tuple[str, str]) -> tuple[str, ...]:
    flag, value = pair
    # A value that begins like a flag would be read as one.
    return (f"{flag}={value}",) if value.startswith("-") else pair


def _text(value: Any) -> str:
    """Returns a field's value as `tinytl.config.flags.parse_field` reads it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(map(_text, value[:1] if len(set(value)) == 1 else value))
    return f"{value!r}" if isinstance(value, float) else str(value)
