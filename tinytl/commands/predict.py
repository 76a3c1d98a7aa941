"""python -m tinytl predict: labels for picture files."""

import argparse
import json
from pathlib import Path

from tinytl.commands.evaluate import add_run_flags
from tinytl.config.flags import Commands
from tinytl.errors import ConfigError


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tinytl`."""
    predict = commands.add_parser(
        "predict",
        usage="tinytl predict RUN FILE [FILE ...] [FLAG ...]",
        help="label picture files with a trained network",
        description="Label picture files: the likeliest classes of each, with their probabilities.",
    )
    add_run_flags(predict)
    predict.add_argument("files", metavar="FILE", nargs="+", help="pictures, or folders of them")
    predict.add_argument(
        "--top", type=int, default=1, metavar="K", help="classes to show for each picture (default: 1)"
    )
    predict.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the likeliest classes of each picture."""
    if args.top < 1:
        raise ConfigError(f"--top {args.top}: must be at least 1")
    files = [file for name in args.files for file in _pictures(Path(name))]
    from tinytl.runs.trained import load_trained

    trained = load_trained(Path(args.trained), args.epoch, args.device or "auto")
    likeliest = [
        {trained.classes[index]: float(row[index]) for index in row.argsort(kind="stable")[::-1][: args.top]}
        for row in trained.probabilities(files)
    ]
    if args.json:
        rows = [
            {"file": str(file), "label": next(iter(classes)), "probabilities": classes}
            for file, classes in zip(files, likeliest, strict=True)
        ]
        print(json.dumps(rows, indent=2))
        return 0
    width = max(len(str(file)) for file in files)
    for file, classes in zip(files, likeliest, strict=True):
        shown = "  ".join(f"{name} {probability:.3f}" for name, probability in classes.items())
        print(f"{file!s:<{width}}  {shown}")
    return 0


def _pictures(path: Path) -> list[Path]:
    """Returns the file, or the pictures anywhere in the folder, in order."""
    from tinytl.data.pictures import IMAGE_SUFFIXES, images_in

    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ConfigError(f"{path}: no such picture or folder")
    found = images_in(path)
    if not found:
        raise ConfigError(f"{path} holds no pictures ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return found
