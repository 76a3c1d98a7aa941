"""`python -m tuner status`: trials by state, and the front."""

import argparse
import json

from tuner.commands.study_flags import Commands, add_study_flags


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tuner`."""
    status = commands.add_parser("status", help="trials by state, and the front")
    add_study_flags(status)
    status.add_argument("--json", action="store_true", help="print JSON")
    status.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints what the study has found."""
    from rich.console import Console

    from tuner.findings.findings import print_findings
    from tuner.findings.sureness import Sureness
    from tuner.record.reading import open_study

    study = open_study(args.name, args.runs_dir, args.storage)
    if args.json:
        print(json.dumps(study.to_json() | Sureness(study).to_json(), indent=2))
    else:
        print_findings(Console(), study)
    return 0
