"""`python -m tuner report`: the whole study as one HTML file."""

import argparse
import sys
from pathlib import Path

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
    report.add_argument(
        "--live",
        action="store_true",
        help="serve it on 127.0.0.1 while the study runs, refreshed as trials go on, and write the file when "
        "the study ends; Ctrl-C ends it without a file",
    )
    report.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Writes the report, and prints where it is; before that serves it, if that was asked for."""
    if args.live:
        return _follow(args)
    from tuner.report.page import write_report

    path = write_report(args.name, args.runs_dir, args.storage, args.out, args.trial)
    _tell(path)
    if args.open:
        _open(path.resolve().as_uri())
    return 0


def _follow(args: argparse.Namespace) -> int:
    from tuner.report.live import serve_live
    from tuner.report.page import check_place, write_report_of

    if args.out is not None:
        check_place(Path(args.out))

    def tell(line: str) -> None:
        print(line, flush=True)

    opened = _open if args.open else lambda url: None
    study = serve_live(args.name, args.runs_dir, args.storage, tell, opened, trial=args.trial)
    if study.complete:
        _tell(write_report_of(study, args.storage, args.out, args.trial))
    return 0


def _tell(path: Path) -> None:
    place, here = named(path), "" if named(path) == str(path) else f", and here: {path}"
    print(f"Report: {place} ({path.stat().st_size / 1e6:.1f} MB){here}", flush=True)


def _open(address: str) -> None:
    from tuner.report.page import open_in_browser

    if not open_in_browser(address):
        print(f"No browser could be opened: open {address} in yours", file=sys.stderr)
