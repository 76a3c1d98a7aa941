"""The flags of `launch.py` as keyword arguments: `memory_budget_mib=60` is `--memory-budget-mib 60`."""

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from tinytl.config.one_line_parser import OneLineParser
from tinytl.errors import ConfigError, choose
from tuner.config import StudyConfig, build_parser, parse_study
from tuner.next_commands import launch_command

NOT_HERE = {"list_spaces": ["--list-spaces"], "dry_run": ["--dry-run"], "submit": ["--submit", "URL"]}
"""Flags with which there is no study to return, and the words that give them to the command."""


class RaisingParser(OneLineParser):
    """A parser that raises ConfigError for a mistake, in place of an exit."""

    def error(self, message: str) -> NoReturn:
        """Raises what the command would print."""
        raise ConfigError(message)


def words_of(flags: Mapping[str, Any]) -> list[str]:
    """Returns the words of a command line that mean the same as keyword arguments.

    None and False stand for a flag that is not given. `set` takes KEY=VALUE, a list of these, or a mapping.
    Elsewhere a list stands for its values with commas between them.

    Raises:
        ConfigError: for an unknown name, with the nearest known one, and for a value of the wrong kind.
    """
    known = {_name(flag): flag for flag in _flags()}
    switches = {name for name in known if isinstance(getattr(StudyConfig, name, None), bool)}
    words: list[str] = []
    for given, value in flags.items():
        name = given if given in NOT_HERE else choose("flag", given, [n for n in known if n not in NOT_HERE])
        if value is None or value is False:
            continue
        if name in NOT_HERE:
            raise ConfigError(
                f"{name}: there is no study to return: `{launch_command(*NOT_HERE[name])}` does that"
            )
        if (name in switches) is not (value is True):
            what = "True or False" if name in switches else "a value"
            raise ConfigError(f"{name}={value!r}: {what} is needed")
        if name in switches:
            words.append(known[name])
        else:
            words += [f"{known[name]}={text}" for text in _texts(name, value)]
    return words


def config_of(words: list[str]) -> StudyConfig:
    """Returns the study of a command line; with `--resume` as the study's own flags begin it.

    Raises:
        ConfigError: for a value that is not of the flag's type, or outside its range.
    """
    return parse_study(words, kind=RaisingParser)[0]


def _flags() -> Iterator[str]:
    for action in build_parser()._actions:
        flag = max(action.option_strings, key=len, default="")
        if flag and flag != "--help":
            yield flag


def _name(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def _texts(name: str, value: Any) -> list[str]:
    if name != "set":
        return [_text(name, value)]
    if isinstance(value, Mapping):
        return [f"{key}={_text(f'set: {key}', one)}" for key, one in value.items()]
    if not isinstance(value, (str, list, tuple)):
        raise ConfigError(f"set={value!r}: give a mapping, or a list of texts KEY=VALUE")
    return [value] if isinstance(value, str) else [str(one) for one in value]


def _text(name: str, value: Any) -> str:
    if isinstance(value, (list, tuple)) and not value:
        raise ConfigError(f"{name}={value!r}: the list is empty, so leave it out or give values")
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
