"""`python -m tuner sync`: makes MLflow say what the study's storage and folders say."""

import argparse

from tuner.bucket.copies import at_hand
from tuner.bucket.database import mlflow_at_hand, send_mlflow
from tuner.commands.study_flags import Commands, add_study_flags


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tuner`."""
    sync = commands.add_parser("sync", help="make MLflow say what the study's storage and folders say")
    add_study_flags(sync)
    sync.add_argument(
        "--tracking-uri", metavar="URI", help="MLflow server or database (default: the study's own)"
    )
    sync.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Brings MLflow in line, and prints how many runs were written."""
    from tuner.tracking.sync import sync

    runs_dir = at_hand(args.runs_dir, args.name)
    mlflow_at_hand(runs_dir)
    counts = sync(args.name, runs_dir, args.storage, args.tracking_uri)
    send_mlflow(runs_dir)
    print(counts)
    return 0
