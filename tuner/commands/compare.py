"""`python -m tuner compare`: several studies, their fronts and their best under the same budgets."""

import argparse
import json
from pathlib import Path

from tuner.commands.study_flags import Commands, add_runs_dir_flag


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tuner`."""
    compare = commands.add_parser("compare", help="studies side by side: fronts, best by budget, hypervolume")
    compare.add_argument("names", metavar="NAME", nargs="+", help="names of the studies, two or more")
    add_runs_dir_flag(compare)
    compare.add_argument("--storage", metavar="URL", help="Optuna storage of all (default: each study's own)")
    compare.add_argument(
        "--under-mib",
        type=float,
        action="append",
        default=[],
        metavar="MIB",
        help="a budget, repeatable (default: four that span all fronts)",
    )
    compare.add_argument("--out", metavar="DIR", help="folder to write: a page, the picture, CSV and JSON")
    compare.add_argument("--json", action="store_true", help="print JSON")
    compare.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the comparison, and writes it if that was asked for."""
    from rich.console import Console

    from tuner.findings.compare import compare, print_comparison
    from tuner.record.reading import open_study

    studies = [open_study(name, args.runs_dir, args.storage) for name in args.names]
    comparison = compare(studies, args.under_mib)
    if args.json:
        print(json.dumps(comparison.to_json(), indent=2))
    else:
        print_comparison(Console(), comparison)
    if args.out is not None:
        from tuner.report.comparison import write_comparison

        files = write_comparison(comparison, Path(args.out))
        if not args.json:
            print(f"Written: {', '.join(map(str, files))}")
    return 0
