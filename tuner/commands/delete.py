"""`python -m tuner delete`: removes a study's record, folder and MLflow runs."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from tinytl.errors import ConfigError
from tuner.bucket.copies import at_hand
from tuner.bucket.database import mlflow_at_hand
from tuner.commands.study_flags import Commands, add_study_flags

if TYPE_CHECKING:
    from tuner.study.delete import FoundStudy


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tuner`."""
    delete = commands.add_parser("delete", help="remove a study: its record, its folder and its MLflow runs")
    add_study_flags(delete)
    delete.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="MLflow server or database of its runs, or none to keep them (default: the study's own)",
    )
    delete.add_argument("--yes", action="store_true", help="do not ask")
    delete.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Asks, removes, and prints a line for each thing that was removed."""
    from tuner.study.delete import delete_study

    found = _find(args)
    if not args.yes:
        if not sys.stdin.isatty():
            raise ConfigError(f"{args.name} is not deleted: without a terminal, add --yes to confirm")
        print(f"To be removed of study {args.name}:", *found.lines(), sep="\n  ")
        if found.staying is not None:
            print(f"  {found.staying}", flush=True)
        if input("Remove all this? [y/N] ").strip().lower() not in ("y", "yes"):
            print("Nothing was removed.")
            return 0
        found = _find(args)  # the answer may have come much later
    delete_study(found, lambda line: print(line, flush=True))
    if found.staying is not None:
        print(found.staying)
    return 0


def _find(args: argparse.Namespace) -> FoundStudy:
    """Finds everything of the study as it is now, in a bucket, too."""
    from tuner.study.delete import find_study

    runs_dir = at_hand(args.runs_dir, args.name)
    mlflow_at_hand(runs_dir)
    return find_study(args.name, runs_dir, args.storage, args.tracking_uri)
