"""python -m tinytl plot: runs as curves and as accuracy against memory, a network as a diagram."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinytl.config.flags import Commands, add_config_flags, given_fields
from tinytl.config.flat import config_from_flat
from tinytl.config.names import FIELDS_WITHOUT_MEMORY
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError, choose, needs_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIAGRAMS = ("block", "backbone", "scheme")
FORMAT_CHOICES = ("png", "svg", "both")
NOT_IN_A_DIAGRAM = ("optimizer", "moments", "class_weighting", "plan", "budget_mib", "device")
DIAGRAM_FLAGS = [
    f.name
    for f in dataclasses.fields(TrainConfig)
    if f.name not in FIELDS_WITHOUT_MEMORY and f.name not in NOT_IN_A_DIAGRAM
]
"""Fields that can change a diagram."""


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tinytl`."""
    plot = commands.add_parser(
        "plot",
        usage="tinytl plot [RUN ...] [FLAG ...]",
        help="draw runs, or a network",
        description=(
            "With folders of runs: top-1 and loss curves (curves.png, .svg) and, of more than one finished\n"
            "run, accuracy against memory (accuracy_memory.png, .svg). With --diagram: the network of a\n"
            "run, or of the flags below, with the shapes of its layers and what trains."
        ),
    )
    plot.add_argument("runs", nargs="*", metavar="RUN", help="folder that `train --out` wrote")
    plot.add_argument(
        "--diagram",
        metavar="KIND",
        help=(
            "`block`: every layer of one block; `backbone`: all blocks, and what each keeps for backward; "
            "`scheme`: which convolutions and biases method Sparse trains"
        ),
    )
    plot.add_argument(
        "--block",
        metavar="NAME",
        help="with --diagram block: such as features.3 (default: the first with lite residual and shortcut)",
    )
    plot.add_argument(
        "--out",
        metavar="DIR",
        help="folder of the figures (default: the run's folder for one run, else `plots`)",
    )
    plot.add_argument(
        "--format", default="both", metavar="FORMAT", help="`png`, `svg` or `both` (default: both)"
    )
    add_config_flags(plot, DIAGRAM_FLAGS)
    plot.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Draws the figures that `args` ask for, and prints their paths."""
    formats = _formats(args.format)
    given = given_fields(args)
    folders = list({folder.resolve(): folder for folder in map(Path, args.runs)}.values())
    out = Path(args.out) if args.out else folders[0] if len(folders) == 1 else Path("plots")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file: choose a folder")
    if args.block and args.diagram != "block":
        raise ConfigError("--block names the block of --diagram block: give both")
    with needs_extra("a figure", "plots"):
        import matplotlib  # noqa: F401
    figures = _diagram(args, folders, given) if args.diagram else _run_figures(folders, given)

    from tinytl.plots.style import save_formats

    for name, figure in figures.items():
        for path in save_formats(figure, out, name, formats):
            print(path)
    return 0


def _run_figures(folders: Sequence[Path], given: dict[str, Any]) -> "dict[str, Figure]":
    if not folders:
        raise ConfigError(
            "nothing to draw: name folders that `tinytl train --out` wrote, or give --diagram "
            "block|backbone|scheme"
        )
    if given:
        raise ConfigError(f"{next(iter(given))} changes a diagram only: add --diagram, or leave it out")

    from tinytl.runs.record import read_run

    runs = [read_run(folder) for folder in folders]
    for run in runs:
        if run.note:
            print(f"note: {run.note}", file=sys.stderr)

    from tinytl.plots.accuracy_memory import comparable, plot_accuracy_memory
    from tinytl.plots.curves import plot_curves

    figures = {"curves": plot_curves(runs)}
    finished = [run for run in runs if comparable(run)]
    if len(finished) > 1:
        figures["accuracy_memory"] = plot_accuracy_memory(finished)
    if 1 < len(runs) != len(finished):
        rest = f"{len(runs) - len(finished)} of {len(runs)} runs have not finished"
        print(f"note: {rest}: they are in the curves only", file=sys.stderr)
    return figures


def _diagram(args: argparse.Namespace, folders: Sequence[Path], given: dict[str, Any]) -> "dict[str, Figure]":
    kind = choose("diagram", args.diagram, DIAGRAMS)
    if len(folders) > 1:
        raise ConfigError(f"--diagram draws one network: name one run, not {len(folders)}")
    flat: dict[str, Any] = {"num_classes": 10}
    for folder in folders:
        from tinytl.runs.record import read_run

        record = read_run(folder)
        if not record.config:
            raise ConfigError(f"{folder} does not hold its configuration yet: give the fields as flags")
        flat |= record.config
    config = config_from_flat(flat | given)

    if kind == "scheme":
        if config.method != "Sparse":
            raise ConfigError(f"--diagram scheme is for method Sparse, not {config.method}")
        from tinytl.plots.scheme_diagram import plot_scheme

        return {"scheme": plot_scheme(config)}
    from tinytl.plots.network_shapes import network_shapes

    blocks = network_shapes(config)
    if kind == "block":
        from tinytl.plots.block_diagram import choose_block, plot_block

        block = choose_block(blocks, args.block)
        name = "lite_residual_block" if block.lite else "block"
        return {name: plot_block(block, config)}
    from tinytl.plots.backbone_diagram import plot_backbone

    return {f"backbone_{config.backbone}": plot_backbone(blocks, config)}


def _formats(text: str) -> Sequence[str]:
    kind = choose("format", text, FORMAT_CHOICES)
    return ("png", "svg") if kind == "both" else (kind,)
