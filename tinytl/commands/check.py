"""python -m tinytl check: what may be wrong with a data set, before anything is trained on it."""

import argparse
import sys
from pathlib import Path

from tinytl.config.flags import Commands, add_config_flags, add_download_flag, given_fields
from tinytl.config.flat import config_from_flat
from tinytl.config.train_config import TrainConfig
from tinytl.data_checks.findings import ENOUGH_PER_CLASS
from tinytl.errors import ConfigError
from tinytl.networks.own_resolution import at_own_resolution

DESCRIPTION = """Look for what may be wrong with a data set: the same picture twice, in two splits or under
two labels; files that do not decode; classes with few pictures; dark, bright, blurred, tiny and oddly shaped
pictures; with --labels, labels that are likely wrong. Nothing is removed: --csv writes a table, and what you
leave in it is left out by --exclude, here, in `tinytl train` and in `launch.py`. The exit code is 0 whatever
is found."""


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tinytl`."""
    check = commands.add_parser(
        "check",
        usage="tinytl check [FLAG ...]",
        help="what may be wrong with a data set",
        description=DESCRIPTION,
    )
    add_config_flags(
        check,
        ["dataset", "data_dir", "exclude", "min_per_class", "resolution", "backbone", "weights", "device"],
    )
    add_download_flag(check)
    check.add_argument(
        "--labels",
        action="store_true",
        help="also look for wrong labels: a head on the backbone's features, cross-validated (a forward pass "
        "of every picture at 128 px or more, in this process)",
    )
    check.add_argument(
        "--enough-per-class",
        type=int,
        default=ENOUGH_PER_CLASS,
        metavar="N",
        help=f"training pictures below which a class is named (default: {ENOUGH_PER_CLASS})",
    )
    check.add_argument("--csv", metavar="FILE", help="write a table with a line for each finding")
    check.add_argument("--html", metavar="FILE", help="write a page with thumbnails, at most 10 MiB")
    check.add_argument("--json", action="store_true", help="print JSON")
    check.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints what was found in the data set that `args` name."""
    given = given_fields(args)
    config = config_from_flat(given)
    _check_flags(args, config)
    from tinytl.data.load import check_data_dir, download_dataset

    if args.download:
        download_dataset(config)
    check_data_dir(config)
    if "resolution" not in given:
        config = at_own_resolution(config)
    from tinytl.data_checks.check import check_dataset
    from tinytl.data_checks.kept import KeptCheck, keep_check
    from tinytl.data_checks.page import write_page
    from tinytl.data_checks.summary import summary
    from tinytl.data_checks.written import as_json, write_csv
    from tinytl.runs.progress import PlainProgress, progress_for_this_output

    progress = PlainProgress(_to_stderr) if args.json else progress_for_this_output()
    checked = check_dataset(config, progress, enough=args.enough_per_class, labels=args.labels)
    kept = KeptCheck(account=checked.account, findings=checked.findings, labels=args.labels)
    keep_check(kept, checked.digest, len(checked.pictures))
    if args.csv:
        write_csv(checked.findings, Path(args.csv))
    if args.html:
        write_page(checked.account, checked.findings, checked.thumbnail, Path(args.html))
    if args.json:
        print(as_json(checked.account, len(checked.pictures), checked.findings))
    else:
        print(f"\n{summary(checked.findings, args.csv)}")
        if args.csv and any(finding.file for finding in checked.findings):
            print(f"\nRemove from {args.csv} the lines of what should stay: --exclude leaves out the others.")
    return 0


def _check_flags(args: argparse.Namespace, config: TrainConfig) -> None:
    if args.enough_per_class < 1:
        raise ConfigError(f"--enough-per-class {args.enough_per_class}: must be at least 1")
    for flag, file in (("--csv", args.csv), ("--html", args.html)):
        if file is not None and not Path(file).parent.is_dir():
            raise ConfigError(f"{flag} {file}: no such folder as {Path(file).parent}")
        if file is not None and Path(file).is_dir():
            raise ConfigError(f"{flag} {file} is a folder: name a file")
    if args.csv and config.exclude and Path(args.csv).resolve() == Path(config.exclude).resolve():
        raise ConfigError(f"--csv {args.csv} would overwrite the list of --exclude: name another file")


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)
