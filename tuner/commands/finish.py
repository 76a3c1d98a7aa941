"""`python -m tuner finish`: the best configuration trained for long enough, judged, written as a model."""

import argparse
import sys

from tuner.commands.study_flags import Commands, add_budget_flag, add_study_flags

DESCRIPTION = """Train a study's best configuration, or another trial's, for a full schedule, judge it once
on the test images, and write RUNS_DIR/NAME/model/: weights, configuration, classes, ONNX, and README.md, its
card. The same command continues one that was cut off."""


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tuner`."""
    finish = commands.add_parser(
        "finish",
        help="make a model of the best: trained fully, judged once, with a card",
        description=DESCRIPTION,
    )
    add_study_flags(finish)
    finish.add_argument("--trial", metavar="TRIAL", help="trial to finish (default: the best)")
    add_budget_flag(finish)
    finish.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help="epochs to train (default: the study's, doubled until a whole run is not better)",
    )
    finish.add_argument(
        "--time-budget",
        type=float,
        metavar="SECONDS",
        help="doubles no further if the next run would end later than this (default: as long as it gains)",
    )
    finish.add_argument(
        "--val-too",
        action="store_true",
        help="then train on training and validation images: a last run of as many epochs",
    )
    finish.add_argument(
        "--replace", action="store_true", help="make another model in place of the one that is there"
    )
    finish.add_argument(
        "--register", metavar="MODEL", help="name in MLflow's model registry that gets a version of it"
    )
    finish.add_argument(
        "--tracking-uri", metavar="URI", help="MLflow server or database (default: the study's own)"
    )
    finish.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Makes the model, or continues; returns 1 if the loss diverged, 130 if it was interrupted."""
    from tinytl.errors import NonFiniteLossError
    from tuner.finish.finish import finish_study
    from tuner.finish.wish import Wish
    from tuner.record.reading import open_study

    wish = Wish(
        trial=args.trial,
        under_mib=args.under_mib,
        epochs=args.epochs,
        time_budget_s=args.time_budget,
        val_too=args.val_too,
        replace=args.replace,
        register=args.register,
        tracking_uri=args.tracking_uri,
    )
    try:
        finish_study(
            open_study(args.name, args.runs_dir, args.storage), wish, lambda line: print(line, flush=True)
        )
    except NonFiniteLossError as error:
        print(f"tuner finish: {error}: choose another --trial", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tuner finish: interrupted: the same command continues", file=sys.stderr)
        return 130
    return 0
