"""python -m tinytl export: a trained network as ONNX, for a device; or a folder that trains there."""

import argparse
import json
from pathlib import Path

from tinytl.commands.evaluate import add_epoch_flag
from tinytl.config.flags import Commands
from tinytl.errors import ConfigError

DESCRIPTION = """Write a trained network for a device: model.onnx (RGB pictures in [0, 1] to logits; it
normalises them), weights.pt (the state dict), config.yaml, and model.json (classes, input, accuracy,
checksums). The ONNX file is first compared with PyTorch; nothing is written if they differ.

With --training the folder trains on the device, with numpy, onnxruntime and pillow alone: step.onnx (the
loss and every gradient), predict.onnx, state.npz, manifest.json, and the program train_on_device.py. RUN
may then also be a finished model, or a configuration's file, such as a run's config.yaml. `tinytl import`
brings back what it trained."""


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tinytl`."""
    export = commands.add_parser(
        "export",
        usage="tinytl export RUN --out DIR [FLAG ...]",
        help="write a trained network as ONNX for a device, or to train there",
        description=DESCRIPTION,
    )
    export.add_argument(
        "trained",
        metavar="RUN",
        help="folder of a run or a model, or a checkpoint file; with --training also a config.yaml",
    )
    export.add_argument("--out", required=True, metavar="DIR", help="folder to write: empty or missing")
    add_epoch_flag(export)
    add_training_flags(export)
    export.add_argument("--json", action="store_true", help="print model.json, or manifest.json")
    export.set_defaults(run=run)


def add_training_flags(export: argparse.ArgumentParser) -> None:
    """Adds `--training` and `--micro-batch-size`."""
    export.add_argument("--training", action="store_true", help="write a folder that trains without PyTorch")
    export.add_argument(
        "--micro-batch-size",
        type=int,
        metavar="N",
        help="with --training: pictures in memory at a time (default: 1, the least memory)",
    )


def micro_batch_size_to_train(args: argparse.Namespace) -> int | None:
    """Returns the micro-batch of `--training`; None for an export that does not train.

    Raises:
        ConfigError: for `--micro-batch-size` without `--training`.
    """
    given: int | None = args.micro_batch_size
    if args.training:
        return 1 if given is None else given
    if given is not None:
        raise ConfigError("--micro-batch-size is for --training: a plain export takes any number of pictures")
    return None


def run(args: argparse.Namespace) -> int:
    """Exports the network that `args` name."""
    if not args.out:
        raise ConfigError("--out is empty: name a folder")
    micro_batch_size = micro_batch_size_to_train(args)
    if micro_batch_size is not None:
        return _for_training(args, micro_batch_size)
    from tinytl.export.folder import export_run, shown

    about = export_run(Path(args.trained), Path(args.out), epoch=args.epoch)
    print(json.dumps(about, indent=2) if args.json else "\n".join(shown(about, Path(args.out))))
    return 0


def _for_training(args: argparse.Namespace, n: int) -> int:
    from tinytl.export.training.folder import export_training, shown

    manifest = export_training(Path(args.trained), Path(args.out), epoch=args.epoch, micro_batch_size=n)
    print(json.dumps(manifest, indent=2) if args.json else "\n".join(shown(manifest, Path(args.out))))
    return 0
