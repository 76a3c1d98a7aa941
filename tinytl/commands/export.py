"""python -m tinytl export: a trained network as ONNX, for a device; or a folder that trains there."""

import argparse
import json
from pathlib import Path

from tinytl.commands.evaluate import add_epoch_flag
from tinytl.config.flags import Commands, add_config_flags
from tinytl.errors import ConfigError

MAX_ACCURACY_DROP = 0.01
"""Default, as a fraction: one point."""
DESCRIPTION = """Write a trained network for a device: model.onnx (RGB pictures in [0, 1] to logits; it
normalises them), weights.pt (the state dict), config.yaml, and model.json (classes, input, accuracy,
checksums). The ONNX file is first compared with PyTorch; nothing is written if they differ. It holds
classes, input and preprocessing itself, as metadata.

With --int8 there is also model_int8.onnx, in eight bits: less than a third of the size, and faster on most
processors. Its ranges come from training images. It is judged on validation images, and
nothing is written if accuracy falls by more than --max-accuracy-drop.

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
    add_int8_flags(export)
    add_config_flags(export, ["data_dir"], default="where the run found it")
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
        ConfigError: for `--micro-batch-size` without `--training`; for that with `--int8` or `--data-dir`.
    """
    given: int | None = args.micro_batch_size
    if args.training:
        for flag, value in (("--int8", args.int8), ("--data-dir", args.data_dir)):
            if value:
                raise ConfigError(f"--training and {flag} exclude each other: leave one of them out")
        return 1 if given is None else given
    if given is not None:
        raise ConfigError("--micro-batch-size is for --training: a plain export takes any number of pictures")
    return None


def add_int8_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --int8 and --max-accuracy-drop."""
    parser.add_argument("--int8", action="store_true", help="write model_int8.onnx, too")
    parser.add_argument(
        "--max-accuracy-drop",
        type=float,
        metavar="X",
        help="with --int8: by how much the run's metric may fall on validation images, a "
        f"fraction (default: {MAX_ACCURACY_DROP:g}, one point)",
    )


def int8_drop(args: argparse.Namespace) -> float | None:
    """Returns how much accuracy an export in eight bits may cost; None without --int8.

    Raises:
        ConfigError: for a limit that is no fraction, or has nothing to limit.
    """
    given: float | None = args.max_accuracy_drop
    if given is not None and not args.int8:
        raise ConfigError("--max-accuracy-drop limits what --int8 costs: add --int8, or leave it out")
    if given is not None and not 0 <= given <= 1:
        raise ConfigError(f"--max-accuracy-drop {given:g} is no fraction: from 0 to 1, 0.01 is one point")
    if not args.int8:
        return None
    return MAX_ACCURACY_DROP if given is None else given


def run(args: argparse.Namespace) -> int:
    """Exports the network that `args` name."""
    if not args.out:
        raise ConfigError("--out is empty: name a folder")
    micro_batch_size, drop = micro_batch_size_to_train(args), int8_drop(args)
    if micro_batch_size is not None:
        return _for_training(args, micro_batch_size)
    from tinytl.export.folder import export_run, shown

    about = export_run(
        Path(args.trained), Path(args.out), epoch=args.epoch, data_dir=args.data_dir, int8_drop=drop
    )
    print(json.dumps(about, indent=2) if args.json else "\n".join(shown(about, Path(args.out))))
    return 0


def _for_training(args: argparse.Namespace, n: int) -> int:
    from tinytl.export.training.folder import export_training, shown

    manifest = export_training(Path(args.trained), Path(args.out), epoch=args.epoch, micro_batch_size=n)
    print(json.dumps(manifest, indent=2) if args.json else "\n".join(shown(manifest, Path(args.out))))
    return 0
