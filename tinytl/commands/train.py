"""python -m tinytl train: one network, its metrics and its result."""

import argparse
import dataclasses
from pathlib import Path

from tinytl.config import TrainConfig
from tinytl.data import check_data_dir, download_dataset
from tinytl.errors import ConfigError
from tinytl.flags import Commands, add_config_flags, add_download_flag, add_lr_ratio_flag, given_fields
from tinytl.flat_config import config_from_flat


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tinytl`."""
    train = commands.add_parser("train", help="train one network and write its metrics")
    add_config_flags(train, [f.name for f in dataclasses.fields(TrainConfig) if f.name != "lr_ratio"])
    add_lr_ratio_flag(train)
    add_download_flag(train)
    train.add_argument(
        "--out", required=True, metavar="DIR", help="new folder for metrics.jsonl, result.json"
    )
    train.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Trains as `args` say."""
    config = config_from_flat(given_fields(args))
    out = Path(args.out)
    if out.is_file():
        raise ConfigError(f"--out {out} is a file: choose a folder")
    if (out / "result.json").exists():
        raise ConfigError(f"--out {out} holds a finished run: choose another folder")
    if args.download:
        download_dataset(config)
    check_data_dir(config)
    from tinytl.run import train_run

    result = train_run(config, out, report=print)
    test = result["test_accuracy_top1"]
    shown = "no test images" if test is None else f"test accuracy {test:.3f}"
    print(f"val accuracy {result['val_accuracy_top1']:.3f}, {shown}; results in {out / 'result.json'}")
    return 0
