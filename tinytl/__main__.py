"""python -m tinytl train | memory: one training run, or what it will take."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from tinytl.config import TrainConfig, config_from_flat
from tinytl.data import check_data_dir
from tinytl.errors import ConfigError, NonFiniteLossError
from tinytl.flags import OneLineParser, add_config_flags, add_lr_ratio_flag, given_fields

_MEMORY_FLAGS = (
    "backbone method norm batch_size micro_batch_size resolution num_classes optimizer n_groups "
    "downsample_ratio kernel_size expand gn_channel_per_group engine plan budget_mib checkpoint "
    "stock_below_kib device"
).split()


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0, 1 (training failed), 2 (a user's mistake)."""
    args = build_parser().parse_args(argv)
    try:
        return int(args.run(args))
    except ConfigError as error:
        print(f"tinytl {args.command}: {error}", file=sys.stderr)
        return 2
    except NonFiniteLossError as error:
        print(f"tinytl {args.command}: {error}: lower --base-lr", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"tinytl {args.command}: interrupted", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `python -m tinytl`."""
    parser = OneLineParser(prog="tinytl", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train one network and write its metrics")
    add_config_flags(train, [f.name for f in dataclasses.fields(TrainConfig) if f.name != "lr_ratio"])
    add_lr_ratio_flag(train)
    train.add_argument(
        "--out", required=True, metavar="DIR", help="new folder for metrics.jsonl, result.json"
    )
    train.set_defaults(run=_train)

    memory = commands.add_parser("memory", help="what a training step takes, before it runs")
    add_config_flags(memory, _MEMORY_FLAGS)
    memory.add_argument("--measure", action="store_true", help="also run two steps and ask the allocator")
    memory.add_argument(
        "--all", action="store_true", help="a table of every method, norm, engine and micro-batch"
    )
    memory.add_argument("--figure", metavar="FILE", help="with --all: draw the table to a PNG or SVG file")
    memory.add_argument("--json", action="store_true", help="print JSON")
    memory.set_defaults(run=_memory)
    return parser


def _train(args: argparse.Namespace) -> int:
    config = config_from_flat(given_fields(args))
    out = Path(args.out)
    if out.is_file():
        raise ConfigError(f"--out {out} is a file: choose a folder")
    if (out / "result.json").exists():
        raise ConfigError(f"--out {out} holds a finished run: choose another folder")
    check_data_dir(config)
    from tinytl.run import train_run

    result = train_run(config, out, report=print)
    test = result["test_accuracy_top1"]
    shown = "no test images" if test is None else f"test accuracy {test:.3f}"
    print(f"val accuracy {result['val_accuracy_top1']:.3f}, {shown}; results in {out / 'result.json'}")
    return 0


def _memory(args: argparse.Namespace) -> int:
    given = given_fields(args)
    config = config_from_flat({"num_classes": 10} | given)
    if args.figure and not args.all:
        raise ConfigError("--figure draws the table of --all: give both")
    if args.figure and Path(args.figure).suffix.lower() not in (".png", ".svg"):
        raise ConfigError(f"--figure {args.figure}: name a file that ends in .png or .svg")
    if args.figure and not Path(args.figure).parent.is_dir():
        raise ConfigError(f"--figure {args.figure}: no such folder as {Path(args.figure).parent}")
    from tinytl.memory_table import all_rows, memory_row, row_text, table_text

    if not args.all:
        row = memory_row(config, args.measure)
        print(json.dumps(row, indent=2) if args.json else row_text(config, row))
        return 0
    rows = all_rows(config, given, args.measure)
    print(json.dumps(rows, indent=2) if args.json else table_text(config, rows))
    if args.figure:
        from tinytl.plots import plot_memory

        plot_memory(rows, table_text(config, rows).splitlines()[0], Path(args.figure))
    return 0


if __name__ == "__main__":
    sys.exit(main())
