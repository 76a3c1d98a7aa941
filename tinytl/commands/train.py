"""python -m tinytl train: one network, its metrics, checkpoints and result."""

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinytl.config.flags import Commands, add_config_flags, add_download_flag, add_lr_ratio_flag, given_fields
from tinytl.config.flat import config_from_flat
from tinytl.config.method_aliases import alias_note
from tinytl.config.names import METRICS
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError
from tinytl.networks.own_resolution import at_own_resolution

DESCRIPTION = """Train one network. --out becomes a folder with config.yaml and environment.json (what made
the run), metrics.jsonl (one line per epoch), best.pt, last.pt and result.json.

If torchrun starts several processes, they share each batch and take the step that one would take:
torchrun --nproc-per-node 2 -m tinytl train ..."""


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tinytl`."""
    train = commands.add_parser(
        "train",
        help="train one network in a folder of its own",
        usage="tinytl train --out DIR [FLAG ...]",
        description=DESCRIPTION,
    )
    run_flags = train.add_argument_group("the run")
    run_flags.add_argument("--out", required=True, metavar="DIR", help="folder of the run")
    run_flags.add_argument(
        "--resume", action="store_true", help="continue the run in --out after its last whole epoch"
    )
    run_flags.add_argument(
        "--config",
        metavar="FILE",
        help="start from a run's config.yaml; flags that are also given override it",
    )
    run_flags.add_argument(
        "--tensorboard", action="store_true", help="also write TensorBoard's event files to --out/tensorboard"
    )
    add_config_flags(train, [f.name for f in dataclasses.fields(TrainConfig) if f.name != "lr_ratio"])
    add_lr_ratio_flag(train)
    add_download_flag(train)
    train.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Trains the network of `args`."""
    from tinytl.data.load import check_data_dir, download_dataset
    from tinytl.runs.directory import RunDirectory, read_config_file

    if not args.out:
        raise ConfigError("--out is empty: name a folder")
    directory = RunDirectory(Path(args.out))
    if args.resume and args.config:
        raise ConfigError("--resume uses the configuration in --out: leave out --config")
    if args.resume:
        directory.check_can_resume()
        base = read_config_file(directory.config_file)
    else:
        directory.check_is_free()
        base = read_config_file(Path(args.config)) if args.config else TrainConfig()
    given = given_fields(args)
    config = config_from_flat(given, base)
    if args.download:
        download_dataset(config)
    check_data_dir(config)
    if "resolution" not in given and not args.resume and not args.config:
        config = at_own_resolution(config)
    if args.tensorboard:
        from tinytl.runs.tensorboard import check_tensorboard

        check_tensorboard()
    from tinytl.runs.progress import progress_for_this_output
    from tinytl.runs.run import train_run

    progress = progress_for_this_output()
    note = alias_note(given.get("method", config.method))
    try:
        result = train_run(
            config,
            directory.path,
            progress,
            resume=args.resume,
            tensorboard=args.tensorboard,
            notes=[note] if note else [],
        )
    except KeyboardInterrupt:
        if not directory.last.exists():
            raise
        print(
            f"tinytl train: interrupted: --out {args.out} --resume continues after the last epoch",
            file=sys.stderr,
        )
        return 130
    if result:  # only the first of several processes has it
        test = _accuracy(result, "test") or "no test images"
        best = ""
        if config.metric != "accuracy_top1":
            best = (
                f"best {METRICS[config.metric]} {result['best_score']:.3f} in epoch {result['best_epoch']}; "
            )
        val = _accuracy(result, "val") or "no validation images"
        print(f"{val}, {test}; {best}results in {directory.result_file}")
    return 0


def _accuracy(result: Mapping[str, Any], split: str) -> str | None:
    """Returns top-1 accuracy with its standard error, as text; None without such images."""
    accuracy = result[f"{split}_accuracy_top1"]
    if accuracy is None:
        return None
    error = result["test_accuracy_top1_standard_error" if split == "test" else "accuracy_top1_standard_error"]
    return f"{split} accuracy {accuracy:.3f} ± {error:.3f}"
