"""python -m tinytl train | memory | plot: one training run, what it will take, or its figures."""

import argparse
import sys

from tinytl.commands import memory, plot, train
from tinytl.errors import ConfigError, NonFiniteLossError
from tinytl.flags import OneLineParser

COMMANDS = (train, memory, plot)


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0, 1 (training failed), 2 (a user's mistake)."""
    args = build_parser().parse_args(argv)
    try:
        return int(args.run(args))
    except ConfigError as error:
        print(f"tinytl {args.command}: {error}", file=sys.stderr)
        return 2
    except NonFiniteLossError as error:
        print(f"tinytl {args.command}: {error}: lower --base-lr", file=sys.stderr)
        return 1
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
