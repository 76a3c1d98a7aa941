"""python -m tinytl: check data; train, evaluate, predict, export one network; predict its memory; draw."""

import argparse
import atexit
import os
import sys
from contextlib import suppress

from tinytl.commands import check, evaluate, export, import_folder, list_names, memory, plot, predict, train
from tinytl.config.one_line_parser import OneLineParser
from tinytl.errors import ConfigError, NonFiniteLossError, in_one_line
from tinytl.files import full_disk_line
from tinytl.streams import use_patient_streams

COMMANDS = (check, train, evaluate, predict, export, import_folder, memory, plot, list_names)


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0, 1 (training failed), 2 (a user's mistake)."""
    use_patient_streams()
    args = build_parser().parse_args(argv)
    try:
        return int(args.run(args))
    except ConfigError as error:
        return _end(f"tinytl {args.command}: {in_one_line(error)}", 2)
    except NonFiniteLossError as error:
        return _end(f"tinytl {args.command}: {error}: lower --base-lr", 1)
    except Exception as error:
        if (line := full_disk_line(error)) is None:
            raise
        return _end(f"tinytl {args.command}: {line}", 2)
    except KeyboardInterrupt:
        return _end(f"tinytl {args.command}: interrupted", 130)


def _end(line: str, code: int) -> int:
    """Prints why the command ends; of several processes only the first prints it."""
    if os.environ.get("RANK", "0") == "0":
        print(line, file=sys.stderr)
    return code


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `python -m tinytl`."""
    parser = OneLineParser(prog="tinytl", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def _leave(ended: list[int]) -> None:
    """Ends a process whose command has ended, without the destructors of PyTorch's libraries.

    Those of the wheel for CUDA touch 115 MiB that training had not: the peak would be theirs.
    """
    if ended:
        with suppress(OSError, ValueError):  # nobody reads them any more
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(ended[0])


def program() -> int:
    """Runs a command as a process of its own, which ends with it; returns the exit code."""
    ended: list[int] = []
    atexit.register(_leave, ended)  # what is registered first runs last
    ended.append(main())
    return ended[0]


if __name__ == "__main__":
    sys.exit(program())
