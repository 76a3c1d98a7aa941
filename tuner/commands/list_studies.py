"""`python -m tuner list`: the studies by name, how far they are, and since when."""

import argparse
import json
import sys

from tuner.bucket.copies import at_hand
from tuner.commands.study_flags import Commands, add_runs_dir_flag


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tuner`."""
    parser = commands.add_parser("list", help="the studies by name: state, trials, and when they began")
    add_runs_dir_flag(parser)
    parser.add_argument("--storage", metavar="URL", help="also the studies of this Optuna storage")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints a line for each study; what cannot be read is named on standard error."""
    from rich.console import Console

    from tuner.study.listing import list_studies, print_studies

    studies, unread = list_studies(at_hand(args.runs_dir, every=True), args.storage)
    if args.json:
        print(json.dumps([study.to_json() for study in studies], indent=2))
    else:
        print_studies(Console(), studies)
    for line in unread:
        print(f"tuner list: {line}", file=sys.stderr)
    return 0
