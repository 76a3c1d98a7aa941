"""python -m tinytl export: a trained network as ONNX and weights, for a device."""

import argparse
import json
from pathlib import Path

from tinytl.commands.evaluate import add_epoch_flag
from tinytl.config.flags import Commands
from tinytl.errors import ConfigError

DESCRIPTION = """Write a trained network for a device: model.onnx (RGB pictures in [0, 1] to logits; it
normalises them), weights.pt (the state dict), config.yaml, and model.json (classes, input, accuracy,
checksums). The ONNX file is first compared with PyTorch; nothing is written if they differ."""


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tinytl`."""
    export = commands.add_parser(
        "export",
        usage="tinytl export RUN --out DIR [FLAG ...]",
        help="write a trained network as ONNX for a device",
        description=DESCRIPTION,
    )
    export.add_argument("trained", metavar="RUN", help="folder of a run, or one of its checkpoint files")
    export.add_argument("--out", required=True, metavar="DIR", help="folder to write: empty or missing")
    add_epoch_flag(export)
    export.add_argument("--json", action="store_true", help="print model.json")
    export.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exports the network that `args` name."""
    from tinytl.export.folder import export_run, shown

    if not args.out:
        raise ConfigError("--out is empty: name a folder")
    about = export_run(Path(args.trained), Path(args.out), epoch=args.epoch)
    print(json.dumps(about, indent=2) if args.json else "\n".join(shown(about, Path(args.out))))
    return 0
