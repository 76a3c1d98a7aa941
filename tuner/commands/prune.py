"""`python -m tuner prune`: removes the checkpoints of trials off a study's front."""

import argparse

from tuner.commands.study_flags import Commands, add_study_flags


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tuner`."""
    prune = commands.add_parser("prune", help="remove the checkpoints of a study's trials off the front")
    add_study_flags(prune)
    prune.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    prune.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Removes them, and prints how much that freed."""
    from tuner.study.prune import prune_study

    prune_study(args.name, args.runs_dir, args.storage, dry_run=args.dry_run, tell=print)
    return 0
