"""`python -m tuner export`: the best trial, or another, as ONNX for a device."""

import argparse

from tuner.commands.study_flags import Commands, add_budget_flag, add_study_flags


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tuner`."""
    export = commands.add_parser("export", help="write the best trial, or another, as ONNX for a device")
    add_study_flags(export)
    which = export.add_mutually_exclusive_group()
    which.add_argument("--trial", metavar="TRIAL", help="trial to export (default: the best)")
    add_budget_flag(which)
    export.add_argument("--out", metavar="DIR", help="folder to write (default: RUNS_DIR/NAME/export/TRIAL)")
    export.add_argument("--json", action="store_true", help="print model.json")
    export.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Writes the trial's folder, and prints what is in it."""
    from tuner.findings.export import export_trial
    from tuner.record.reading import open_study

    study = open_study(args.name, args.runs_dir, args.storage)
    print(export_trial(study, args.trial, args.under_mib, args.out, as_json=args.json))
    return 0
