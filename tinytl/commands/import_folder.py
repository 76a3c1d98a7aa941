"""python -m tinytl import: what a device trained, as a run."""

import argparse
from pathlib import Path

from tinytl.config.flags import Commands
from tinytl.errors import ConfigError
from tinytl.plural import counted

DESCRIPTION = """Make a run of a folder that `tinytl export --training` wrote, with what its program trained
on the device. `tinytl evaluate`, `predict` and `export` take the run."""


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tinytl`."""
    parser = commands.add_parser(
        "import",
        usage="tinytl import DIR --out RUN",
        help="make a run of what a device trained",
        description=DESCRIPTION,
    )
    parser.add_argument("folder", metavar="DIR", help="folder as it comes from the device")
    parser.add_argument("--out", required=True, metavar="RUN", help="folder of the run: empty or missing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Imports the folder that `args` name."""
    from tinytl.export.training.brought_back import bring_back

    if not args.out:
        raise ConfigError("--out is empty: name a folder")
    state = bring_back(Path(args.folder), Path(args.out))
    print(f"{args.out}: {len(state['classes'])} classes, {counted(state['epoch'], 'epoch')} trained")
    return 0
