"""`python -m tuner export`: the best trial, or another, as ONNX for a device, or to train there."""

import argparse

from tinytl.commands.export import (
    add_int8_flags,
    add_training_flags,
    int8_drop,
    micro_batch_size_to_train,
)
from tinytl.config.flags import add_config_flags
from tuner.commands.study_flags import Commands, add_budget_flag, add_study_flags

DESCRIPTION = """Write the best trial of a study, or another, for a device: model.onnx, weights.pt,
config.yaml and model.json. With --training the folder trains on the device without PyTorch, as that of
`tinytl export --training` does; `tinytl import` makes a run of what it trained there."""


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tuner`."""
    export = commands.add_parser(
        "export",
        help="write the best trial, or another, as ONNX for a device, or to train there",
        description=DESCRIPTION,
    )
    add_study_flags(export)
    which = export.add_mutually_exclusive_group()
    which.add_argument(
        "trial", nargs="?", default=argparse.SUPPRESS, metavar="TRIAL", help="the same as --trial TRIAL"
    )
    which.add_argument("--trial", metavar="TRIAL", help="trial to export (default: the best)")
    add_budget_flag(which)
    export.add_argument(
        "--out",
        metavar="DIR",
        help="folder to write (default: RUNS_DIR/NAME/export/TRIAL, or TRIAL-training)",
    )
    add_int8_flags(export)
    add_config_flags(export, ["data_dir"], default="where the study found it")
    add_training_flags(export)
    export.add_argument("--json", action="store_true", help="print model.json, or manifest.json")
    export.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Writes the trial's folder, and prints what is in it."""
    from tuner.findings.export import export_trial
    from tuner.record.reading import open_study

    micro_batch_size, drop = micro_batch_size_to_train(args), int8_drop(args)
    study = open_study(args.name, args.runs_dir, args.storage)
    shown = export_trial(
        study,
        args.trial,
        args.under_mib,
        args.out,
        data_dir=args.data_dir,
        int8_drop=drop,
        as_json=args.json,
        micro_batch_size=micro_batch_size,
    )
    print(shown)
    return 0
