"""python -m tuner: start a study, look at studies, stop or delete them."""

import argparse
import sys

from tinytl.config.one_line_parser import OneLineParser
from tinytl.errors import ConfigError, in_one_line
from tinytl.files import full_disk_line
from tinytl.streams import use_patient_streams
from tuner.commands import (
    best,
    compare,
    delete,
    export,
    finish,
    jobs,
    launch,
    list_studies,
    prune,
    repair,
    report,
    status,
    stop,
    sync,
    ui,
)
from tuner.installed import check_installed
from tuner.stopping import sigterm_as_ctrl_c

COMMANDS = (
    launch,
    list_studies,
    status,
    compare,
    report,
    best,
    finish,
    export,
    sync,
    ui,
    jobs,
    stop,
    prune,
    delete,
    repair,
)


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0, 1 (it failed), 2 (a user's mistake) or 130 (interrupted)."""
    use_patient_streams()
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["launch"]:  # its parser is made when it is needed: a resumed study has other defaults
        return launch.main(words[1:], "tuner launch")
    args = build_parser().parse_args(words)
    try:
        check_installed()
        with sigterm_as_ctrl_c():
            return int(args.run(args))
    except ConfigError as error:
        print(f"tuner {args.command}: {in_one_line(error)}", file=sys.stderr)
        return 2
    except Exception as error:
        if (line := full_disk_line(error)) is None:
            raise
        print(f"tuner {args.command}: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"tuner {args.command}: interrupted", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `python -m tuner`."""
    parser = OneLineParser(prog="tuner", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
