"""`python -m tuner report`: the whole study as one HTML file."""

import argparse
import sys

from tuner.bucket.copies import named
from tuner.commands.study_flags import Commands, add_study_flags


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tuner`."""
    report = commands.add_parser("report", help="the whole study as one HTML file that loads nothing")
    add_study_flags(report)
    report.add_argument("--out", metavar="FILE", help="file to write (default: RUNS_DIR/NAME/report.html)")
    report.add_argument(
        "--trial", metavar="TRIAL", help="the trial whose mistakes it shows (default: the best)"
    )
    report.add_argument("--open", action="store_true", help="open it in the browser")
    report.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Writes the report, and prints where it is."""
    from tuner.report.page import open_in_browser, write_report

    path = write_report(args.name, args.runs_dir, args.storage, args.out, args.trial)
    place, here = named(path), "" if named(path) == str(path) else f", and here: {path}"
    print(f"Report: {place} ({path.stat().st_size / 1e6:.1f} MB){here}", flush=True)
    if args.open and not open_in_browser(path):
        print("No browser could be opened: open the file in yours", file=sys.stderr)
    return 0
