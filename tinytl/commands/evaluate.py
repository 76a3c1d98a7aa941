"""python -m tinytl evaluate: a trained network on a split of its data, or of other data."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinytl.config.flags import Commands, add_config_flags, add_download_flag, given_fields
from tinytl.config.flat import config_from_flat

if TYPE_CHECKING:
    from tinytl.config.train_config import TrainConfig
    from tinytl.data.named_pictures import NamedPictures
    from tinytl.data.splits import Split
    from tinytl.runs.trained import TrainedNetwork

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
        help="folder for pictures: which class is taken for which, confidence against accuracy, the surest "
        "mistakes and the least certain pictures",
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
    from tinytl.data.load import download_dataset
    from tinytl.errors import ConfigError, needs_extra
    from tinytl.plural import counted
    from tinytl.runs.judged import flat, lines, picture_lines
    from tinytl.runs.judged_pictures import WORST_MISTAKES, galleries
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
    name, split, images, named = _chosen_images(args, config, trained)
    found = evaluate(
        trained.net,
        trained.normalize,
        images,
        resolution=config.resolution,
        batch_size=args.images_at_once,
        precision=trained.precision,
        workers=config.loader_workers,
    )
    judged = galleries(found, named, trained.classes)
    row: dict[str, Any] = {
        "checkpoint": str(trained.path),
        "epoch": trained.epoch,
        "dataset": name,
        "split": split,
        "images": len(images),
    }
    if args.figures:
        from tinytl.plots.gallery import save_galleries
        from tinytl.plots.judgements import save_judgements

        folder, title = Path(args.figures), f"{name}, {split}"
        paths = save_judgements(found, trained.classes, folder, title)
        paths += save_galleries(judged, named, folder, title)
        row["figures"] = [str(path) for path in paths]
    if args.json:
        shown = {gallery: [one._asdict() for one in found_in] for gallery, found_in in judged.items()}
        print(json.dumps(row | flat(found, trained.classes) | shown, indent=2))
        return 0
    which = (
        f"all {counted(len(images), 'image')}" if split == "all" else counted(len(images), f"{split} image")
    )
    print(f"{name}, {which} ({trained.path}, epoch {trained.epoch})")
    if split != "train" and split in trained.trained_on:
        print("these images trained the network: other images will not be judged as well")
    print("\n".join([*lines(found, trained.classes), *picture_lines(judged[WORST_MISTAKES])]))
    for path in row.get("figures", ()):
        print(path)
    return 0


def _chosen_images(
    args: argparse.Namespace, config: "TrainConfig", trained: "TrainedNetwork"
) -> tuple[str, str, "Split", "NamedPictures"]:
    """Returns the data set's name, the split's, its images, and the same as files with their names.

    Raises:
        ConfigError: for a data set that cannot be loaded, has other classes, or lacks the split.
    """
    from tinytl.data.excluded import names_of
    from tinytl.data.load import check_data_dir, load_dataset, load_whole_folder
    from tinytl.data.named_pictures import NamedPictures, as_judged, named_parts
    from tinytl.errors import ConfigError
    from tinytl.runs.checkpoint_file import check_same_classes

    if args.split is None and args.data_dir is not None:
        whole = load_whole_folder(config, trained.classes)
        if whole is not None:
            named = NamedPictures(whole, names_of("all", whole, args.data_dir))
            return Path(args.data_dir).expanduser().resolve().name, "all", whole, named
    split = args.split or "val"
    check_data_dir(config)
    data = load_dataset(config, known=trained.classes)
    check_same_classes({"classes": trained.classes}, data.classes, trained.path)
    images = getattr(data, split)
    if images is None:
        raise ConfigError(f"--split {split}: {data.name} has no {split} images")
    return (
        data.name,
        split,
        images,
        as_judged(named_parts(config, trained.classes)[1][split], images.labels, config),
    )
