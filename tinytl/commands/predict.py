"""python -m tinytl predict: labels for picture files."""

import argparse
import json
import sys
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
    """Prints the likeliest classes of each picture as it is judged; returns 1 if one did not decode."""
    if args.top < 1:
        raise ConfigError(f"--top {args.top}: must be at least 1")
    files = [file for name in args.files for file in _pictures(Path(name))]
    from tinytl.runs.trained import load_trained

    trained = load_trained(Path(args.trained), args.epoch, args.device or "auto")
    width = max(len(str(file)) for file in files)
    written = failed = 0
    if args.json:
        print("[")
    for file in files:
        try:
            (row,) = trained.probabilities([file])
        except ConfigError as error:
            print(f"tinytl predict: {error}", file=sys.stderr)
            failed += 1
            continue
        best = row.argsort(kind="stable")[::-1][: args.top]
        classes = {trained.classes[index]: float(row[index]) for index in best}
        if args.json:
            text = json.dumps({"file": str(file), "label": next(iter(classes)), "probabilities": classes})
            print(f",\n  {text}" if written else f"  {text}", end="", flush=True)
        else:
            shown = "  ".join(f"{name} {probability:.3f}" for name, probability in classes.items())
            print(f"{file!s:<{width}}  {shown}", flush=True)
        written += 1
    if args.json:
        print("\n]" if written else "]")
    return 1 if failed else 0


def _pictures(path: Path) -> list[Path]:
    """Returns the file, or the pictures anywhere in the folder, in order."""
    from tinytl.data.walk import LeftOut, picture_endings, pictures_under

    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ConfigError(f"{path}: no such picture or folder")
    left_out = LeftOut()
    found = pictures_under(path, left_out)
    if not found:
        held = f"{left_out}, but " if left_out.has_files else ""
        raise ConfigError(f"{path} holds {held}no pictures ({', '.join(sorted(picture_endings()))})")
    return found
