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
    evaluate.add_argument(
        "--split",
        choices=SPLITS,
        help="split to evaluate (default: val; of a folder of classes given as --data-dir, all its images)",
    )
    add_config_flags(
        evaluate,
        ["dataset", "data_dir", "loading", "loader_workers", "skip_broken", "exclude"],
        default="the run's own",
    )
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
        help="the epoch with the best validation accuracy, or the last (default: the best; of a trial of a "
        "study, which keeps no other, the last)",
    )


def run(args: argparse.Namespace) -> int:
    """Prints the accuracy of the network that `args` name."""
    from tinytl.data.load import check_data_dir, download_dataset, load_dataset, load_whole_folder
    from tinytl.errors import ConfigError
    from tinytl.runs.checkpoint_file import check_same_classes
    from tinytl.runs.trained import load_trained
    from tinytl.training.evaluation import evaluate

    if args.images_at_once < 1:
        raise ConfigError(f"--images-at-once {args.images_at_once}: must be at least 1")
    trained = load_trained(Path(args.trained), args.epoch, args.device or "auto")
    given = given_fields(args)
    if args.data_dir is not None:
        given = {"exclude": None} | given  # the run's list names files of the run's own folder
    config = config_from_flat({"num_classes": None} | given, trained.config)
    if args.download:
        download_dataset(config)
    images, name, split = None, "", "all"
    if args.split is None and args.data_dir is not None:
        images = load_whole_folder(config, trained.classes)
        name = Path(args.data_dir).expanduser().resolve().name
    if images is None:
        split = args.split or "val"
        check_data_dir(config)
        data = load_dataset(config)
        check_same_classes({"classes": trained.classes}, data.classes, trained.path)
        images, name = getattr(data, split), data.name
    if images is None:
        raise ConfigError(f"--split {split}: {name} has no {split} images")
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
        "dataset": name,
        "split": split,
        "images": len(images),
        "accuracy_top1": accuracy,
        "loss": loss,
    }
    if args.json:
        print(json.dumps(row, indent=2))
    else:
        which = f"all {len(images)}" if split == "all" else f"{len(images)} {split}"
        print(
            f"{name}: accuracy {accuracy:.3f}, loss {loss:.3f} on {which} images "
            f"({trained.path}, epoch {trained.epoch})"
        )
    return 0
