"""A command-line parser that reports a mistake in one line, with the nearest known name."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tinytl.errors import nearest

NEEDED = {
    "MIB": "a number of MiB is needed, such as 60",
    "SECONDS": "a number of seconds is needed, such as 3600",
    "SHARE": "a share of a GPU is needed, such as 0.25",
    "PORT": "a port is needed, a number from 1 to 65535",
}
"""What a flag needs, by its metavar."""
OLD_FLAGS = {
    **dict.fromkeys(("-a", "--a", "--arch"), "--backbone"),
    **dict.fromkeys(("-type", "-t", "--dataset-type"), "--dataset"),
    "--proxy": "--backbone proxylessnas_mobile",
    "--pretrained": "--weights imagenet",
    "--train-method": "--method",
    "-b": "--batch-size",
    "--lr": "--base-lr",
    "--wd": "--weight-decay",
    "--start-epoch": "--resume",
    **dict.fromkeys(("-j", "--workers"), "--loader-workers"),
}
"""Flags of the reports' `train.py`, and what does the same today."""
ELSEWHERE = {
    "--gpu": "CUDA_VISIBLE_DEVICES=N before the command",
    **dict.fromkeys(("-e", "--evaluate"), "python -m tinytl evaluate RUN"),
    **dict.fromkeys(("-p", "--print-freq"), "nothing, a line is printed for each epoch"),
    **dict.fromkeys(
        ("--world-size", "--rank", "--dist-url", "--dist-backend", "--multiprocessing-distributed"),
        "torchrun --nproc-per-node N -m tinytl train",
    ),
}
"""Flags of the reports' `train.py` for which there is another command today."""
_REQUIRED = "the following arguments are required: "


class OneLineParser(argparse.ArgumentParser):
    """A parser that prints one line for a mistake, exits with 2, and keeps the line breaks of its help."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("exit_on_error", False)
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Prints one line and exits with 2."""
        missing = message.removeprefix(_REQUIRED)
        if missing != message:
            message = f"{missing} {'are' if ', ' in missing else 'is'} missing"
        print(f"{self.prog}: {message} (--help lists the flags)", file=sys.stderr)
        sys.exit(2)

    def parse_known_args(  # type: ignore[override] # typeshed has three overloads of one function
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parses. An unknown word is reported here, because here the flags of the command are known."""
        words = [_with_home(word) for word in (sys.argv[1:] if args is None else args)]
        known = [name for action in self._actions for name in action.option_strings]
        for flag in (word.partition("=")[0] for word in words):
            if flag not in known and (today := _today(flag, known)):
                self.error(f"unknown flag {flag}: today it is {today}")
        try:
            found, rest = super().parse_known_args(words, namespace)
        except argparse.ArgumentError as error:
            self.error(self._in_own_words(error))
        if rest:
            self.error(self._unknown(rest))
        return found, rest

    def _unknown(self, rest: Sequence[str]) -> str:
        flag = next((word.partition("=")[0] for word in rest if word.startswith("-")), None)
        if flag is None:
            return f"{rest[0]!r} is one word too many"
        near = nearest(flag, [name for action in self._actions for name in action.option_strings])
        return f"unknown flag {flag}" + (f": did you mean {near}?" if near else "")

    def _in_own_words(self, error: argparse.ArgumentError) -> str:
        """Returns what is wrong with a flag. argparse's own message would name Python's types."""
        name, message = error.argument_name, error.message
        action = self._named(name)
        if name is None or action is None:
            return message
        flag = max(action.option_strings, key=len, default=name)
        if message.startswith("expected "):
            return f"{flag} has no value: {_needed(action)}"
        if message.startswith("ignored explicit argument "):
            given = message.removeprefix("ignored explicit argument ")
            return f"{flag} is given the value {given}: it is a switch, leave the value out"
        if message.startswith("not allowed with argument "):
            other = message.removeprefix("not allowed with argument ")
            return f"{flag} and {other} exclude each other: give one"
        return message

    def _named(self, name: str | None) -> argparse.Action | None:
        for action in self._actions:
            if name in ("/".join(action.option_strings), action.metavar, action.dest):
                return action
        return None

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError:
            flag = max(action.option_strings, key=len, default=action.metavar)
            raise argparse.ArgumentError(None, f"{flag} {arg_string}: {_needed(action)}") from None

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices: Iterable[Any] | None = action.choices
        if choices is None or value in choices:
            return
        known = [str(choice) for choice in choices]
        kind = max(action.option_strings, key=len, default="command")
        near = nearest(str(value), known)
        hint = f"did you mean {near!r}? " if near else ""
        raise argparse.ArgumentError(None, f"unknown {kind} {value!r}: {hint}known: {', '.join(known)}")


def _today(flag: str, known: Sequence[str]) -> str | None:
    """Returns what a flag of the reports' `train.py` is called in a command that has the flags `known`."""
    today = OLD_FLAGS.get(flag, "")
    name, _, value = today.partition(" ")
    if name in known:
        return today
    if name and "--set" in known:  # a search
        return f"--set {name.removeprefix('--').replace('-', '_')}={value or 'VALUE'}"
    return ELSEWHERE.get(flag) if "--backbone" in known else None


def _with_home(word: str) -> str:
    """Returns a word with the user's folder for `~/`, behind a `=` too, where shells leave it."""
    name, equals, value = word.partition("=")
    if equals and value.startswith("~/"):
        return f"{name}={Path(value).expanduser()}"
    return str(Path(word).expanduser()) if word == "~" or word.startswith("~/") else word


def _needed(action: argparse.Action) -> str:
    if action.choices is not None:
        return f"one of {', '.join(map(str, action.choices))} is needed"
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    plain = {int: "a whole number is needed", float: "a number is needed"}.get(action.type)  # type: ignore[call-overload]
    return NEEDED.get(metavar) or plain or f"give {metavar}"
