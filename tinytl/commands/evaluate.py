"""python -m tinytl evaluate: a trained network on a split of its data, or of other data."""

import argparse
import json
from pathlib import Path

from tinytl.config.flags import Commands, add_config_flags, add_download_flag, given_fields
from tinytl.config.flat import config_from_flat

SPLITS = ("train", "val", "test")
EVAL_BATCH_SIZE = 32


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tinytl`."""
    evaluate = commands.add_parser(
        "evaluate",
        usage="tinytl evaluate RUN [FLAG ...]",
        help="accuracy of a trained network",
        description="Accuracy of a trained network on its own data set, or on another with the same classes.",
    )
    add_run_flags(evaluate)
    evaluate.add_argument("--split", choices=SPLITS, default="val", help="split to evaluate (default: val)")
    add_config_flags(evaluate, ["dataset", "data_dir", "loading", "loader_workers"], default="the run's own")
    evaluate.add_argument(
        "--images-at-once",
        type=int,
        default=EVAL_BATCH_SIZE,
        metavar="N",
        help=f"images in memory at a time (default: {EVAL_BATCH_SIZE})",
    )
    add_download_flag(evaluate)
    evaluate.set_defaults(run=run)


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that name a trained network, RUN, --epoch and --device, and --json."""
    parser.add_argument(
        "trained", metavar="RUN", help="folder of a run or of an export, or one of a run's checkpoint files"
    )
    add_epoch_flag(parser)
    add_config_flags(parser, ["device"])
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_epoch_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --epoch, which selects one of a run's two checkpoints."""
    parser.add_argument(
        "--epoch",
        choices=("best", "last"),
        default="best",
        help="the epoch with the best validation accuracy, or the last (default: best)",
    )


def run(args: argparse.Namespace) -> int:
    """Prints the accuracy of the network that `args` name."""
    from tinytl.data.load import check_data_dir, download_dataset, load_dataset
    from tinytl.errors import ConfigError
    from tinytl.runs.checkpoint_file import check_same_classes
    from tinytl.runs.trained import load_trained
    from tinytl.training.evaluation import evaluate

    if args.images_at_once < 1:
        raise ConfigError(f"--images-at-once {args.images_at_once}: must be at least 1")
    trained = load_trained(Path(args.trained), args.epoch, args.device or "auto")
    given = given_fields(args)
    config = config_from_flat({"num_classes": None} | given, trained.config)
    if args.download:
        download_dataset(config)
    check_data_dir(config)
    data = load_dataset(config)
    check_same_classes({"classes": trained.classes}, data.classes, trained.path)
    images = getattr(data, args.split)
    if images is None:
        raise ConfigError(f"--split {args.split}: {data.name} has no {args.split} images")
    accuracy, loss = evaluate(
        trained.net,
        trained.normalize,
        images,
        resolution=config.resolution,
        batch_size=args.images_at_once,
        precision=trained.precision,
        workers=config.loader_workers,
    )
    row = {
        "checkpoint": str(trained.path),
        "epoch": trained.epoch,
        "dataset": data.name,
        "split": args.split,
        "images": len(images),
        "accuracy_top1": accuracy,
        "loss": loss,
    }
    if args.json:
        print(json.dumps(row, indent=2))
    else:
        print(
            f"{data.name}: accuracy {accuracy:.3f}, loss {loss:.3f} on {len(images)} {args.split} images "
            f"({trained.path}, epoch {trained.epoch})"
        )
    return 0
