"""`python -m tuner best`: the most accurate trial, and the command that trains it."""

import argparse
import json

from tuner.commands.study_flags import Commands, add_budget_flag, add_study_flags


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tuner`."""
    best = commands.add_parser("best", help="the most accurate trial, and the command that trains it")
    add_study_flags(best)
    add_budget_flag(best)
    best.add_argument("--json", action="store_true", help="print JSON")
    best.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the best trial within the budget."""
    from rich.console import Console

    from tuner.findings.best import choose_best, print_best
    from tuner.record.reading import open_study

    best = choose_best(open_study(args.name, args.runs_dir, args.storage), args.under_mib)
    if args.json:
        print(json.dumps(best.to_json(), indent=2))
    else:
        print_best(Console(), best)
    return 0
