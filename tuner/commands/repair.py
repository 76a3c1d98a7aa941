"""`python -m tuner repair`: brings a damaged journal back, with all that is whole in it."""

import argparse

from tuner.bucket.copies import at_hand
from tuner.commands.study_flags import Commands, add_runs_dir_flag


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tuner`."""
    repair = commands.add_parser(
        "repair", help="keep the whole records of a damaged optuna.journal, and say what is lost"
    )
    add_runs_dir_flag(repair)
    repair.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Repairs the journal, and prints a line for each damaged one."""
    from tuner.record.journal_repair import repair_all

    for line in repair_all(at_hand(args.runs_dir, every=True)):
        print(line, flush=True)
    return 0
