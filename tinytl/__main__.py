"""python -m tinytl: train, evaluate and predict with one network; its memory, before it runs; figures."""

import argparse
import os
import sys

from tinytl.commands import evaluate, list_names, memory, plot, predict, train
from tinytl.errors import ConfigError, NonFiniteLossError
from tinytl.flags import OneLineParser

COMMANDS = (train, evaluate, predict, memory, plot, list_names)


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0, 1 (training failed), 2 (a user's mistake)."""
    args = build_parser().parse_args(argv)
    try:
        code = int(args.run(args))
        sys.stdout.flush()  # here, where who does not read on is met
        return code
    except ConfigError as error:
        print(f"tinytl {args.command}: {error}", file=sys.stderr)
        return 2
    except NonFiniteLossError as error:
        print(f"tinytl {args.command}: {error}: lower --base-lr", file=sys.stderr)
        return 1
    except BrokenPipeError:  # who read our output has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"tinytl {args.command}: interrupted", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `python -m tinytl`."""
    parser = OneLineParser(prog="tinytl", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
