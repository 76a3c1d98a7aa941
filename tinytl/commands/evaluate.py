"""python -m tinytl evaluate: a trained network on a split of its data, or of other data."""

import argparse
import json
from pathlib import Path
from typing import Any

from tinytl.config.flags import Commands, add_config_flags, add_download_flag, given_fields
from tinytl.config.flat import config_from_flat

SPLITS = ("train", "val", "test")
EVAL_BATCH_SIZE = 32


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tinytl`."""
    evaluate = commands.add_parser(
        "evaluate",
        usage="tinytl evaluate RUN [FLAG ...]",
        help="accuracy of a trained network, and what it gets wrong",
        description=(
            "Accuracy of a trained network on its own data set, or on another with the same classes:\n"
            "of each class, too, and how far its probabilities can be trusted."
        ),
    )
    add_run_flags(evaluate)
    evaluate.add_argument(
        "--split",
        choices=SPLITS,
        help="split to evaluate (default: val; of a folder of classes given as --data-dir, all its images)",
    )
    add_config_flags(
        evaluate,
        ["dataset", "data_dir", "loading", "loader_workers", "skip_broken", "exclude", "min_per_class"],
        default="the run's own",
    )
    evaluate.add_argument(
        "--images-at-once",
        type=int,
        default=EVAL_BATCH_SIZE,
        metavar="N",
        help=f"images in memory at a time (default: {EVAL_BATCH_SIZE})",
    )
    evaluate.add_argument(
        "--figures",
        metavar="DIR",
        help="folder for pictures: which class is taken for which, and confidence against accuracy",
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
    from tinytl.errors import ConfigError, needs_extra
    from tinytl.plural import counted
    from tinytl.runs.checkpoint_file import check_same_classes
    from tinytl.runs.judged import flat, lines
    from tinytl.runs.trained import load_trained
    from tinytl.training.evaluation import evaluate

    if args.images_at_once < 1:
        raise ConfigError(f"--images-at-once {args.images_at_once}: must be at least 1")
    if args.figures and Path(args.figures).exists() and not Path(args.figures).is_dir():
        raise ConfigError(f"--figures {args.figures} is a file: choose a folder")
    if args.figures:
        with needs_extra("a figure", "plots"):
            import matplotlib  # noqa: F401
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
        data = load_dataset(config, known=trained.classes)
        check_same_classes({"classes": trained.classes}, data.classes, trained.path)
        images, name = getattr(data, split), data.name
    if images is None:
        raise ConfigError(f"--split {split}: {name} has no {split} images")
    found = evaluate(
        trained.net,
        trained.normalize,
        images,
        resolution=config.resolution,
        batch_size=args.images_at_once,
        precision=trained.precision,
        workers=config.loader_workers,
    )
    row: dict[str, Any] = {
        "checkpoint": str(trained.path),
        "epoch": trained.epoch,
        "dataset": name,
        "split": split,
        "images": len(images),
    }
    if args.figures:
        from tinytl.plots.judgements import save_judgements

        paths = save_judgements(found, trained.classes, Path(args.figures), f"{name}, {split}")
        row["figures"] = [str(path) for path in paths]
    if args.json:
        print(json.dumps(row | flat(found, trained.classes), indent=2))
        return 0
    which = (
        f"all {counted(len(images), 'image')}" if split == "all" else counted(len(images), f"{split} image")
    )
    print(f"{name}, {which} ({trained.path}, epoch {trained.epoch})")
    if split != "train" and split in trained.trained_on:
        print("these images trained the network: other images will not be judged as well")
    print("\n".join(lines(found, trained.classes)))
    for path in row.get("figures", ()):
        print(path)
    return 0
