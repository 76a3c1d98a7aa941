"""python -m tinytl memory: the memory that a training step needs, before it runs."""

import argparse
import dataclasses
import json
from pathlib import Path

from tinytl.config.flags import Commands, add_config_flags, given_fields
from tinytl.config.flat import config_from_flat
from tinytl.config.method_aliases import alias_note
from tinytl.config.names import SPARSE_FIELDS
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError, needs_extra
from tinytl.networks.own_resolution import at_own_resolution

MEMORY_FLAGS = (
    f"backbone method {' '.join(SPARSE_FIELDS)} norm batch_size micro_batch_size resolution num_classes "
    "optimizer n_groups downsample_ratio kernel_size kernel_clipping expand act_func upsample_type "
    "gn_channel_per_group weight_standardization dropout momentum engine plan budget_mib checkpoint "
    "stock_below_kib memory_format slice_mib cuda_graph frozen_weights precision moments device"
).split()


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tinytl`."""
    memory = commands.add_parser(
        "memory",
        usage="tinytl memory [FLAG ...]",
        help="the memory that a training step needs, before it runs",
    )
    add_config_flags(memory, MEMORY_FLAGS)
    memory.add_argument("--measure", action="store_true", help="also run two steps and ask the allocator")
    memory.add_argument(
        "--all", action="store_true", help="a table of every method, norm, engine and micro-batch"
    )
    memory.add_argument(
        "--curve", action="store_true", help="the plans that no other beats in both memory and time"
    )
    memory.add_argument(
        "--figure", metavar="FILE", help="with --all or --curve: also draw it to a PNG or SVG file"
    )
    memory.add_argument("--json", action="store_true", help="print JSON")
    memory.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the memory of the configuration in `args`."""
    given = given_fields(args)
    config = config_from_flat({"num_classes": 10} | given)
    if args.all and args.curve:
        raise ConfigError("--curve shows one configuration, --all every method: give one of them")
    if args.curve and config.plan != "fast":
        raise ConfigError(f"--curve shows every plan: leave out --plan {config.plan}")
    if args.figure:
        _check_figure(args)
    from tinytl.memory.table import all_rows, memory_row, row_text, table_text

    if "resolution" not in given:
        config = at_own_resolution(config)
    note = alias_note(given.get("method", config.method))
    before = f"{note}\n" if note else ""
    if args.curve:
        _print_curve(config, args, before)
        return 0
    if not args.all:
        row = memory_row(config, args.measure)
        print(json.dumps(row, indent=2) if args.json else before + row_text(config, row))
        return 0
    rows = all_rows(config, given, args.measure)
    print(json.dumps(rows, indent=2) if args.json else table_text(config, rows))
    if args.figure:
        from tinytl.plots.memory import plot_memory

        plot_memory(rows, table_text(config, rows).splitlines()[0], Path(args.figure))
    return 0


def _check_figure(args: argparse.Namespace) -> None:
    if not (args.all or args.curve):
        raise ConfigError("--figure draws what --all or --curve prints: give one of them too")
    if Path(args.figure).suffix.lower() not in (".png", ".svg"):
        raise ConfigError(f"--figure {args.figure}: name a file that ends in .png or .svg")
    if not Path(args.figure).parent.is_dir():
        raise ConfigError(f"--figure {args.figure}: no such folder as {Path(args.figure).parent}")
    with needs_extra("--figure", "plots"):
        import matplotlib  # noqa: F401


def _print_curve(config: TrainConfig, args: argparse.Namespace, before: str) -> None:
    from tinytl.memory.curve import memory_curve
    from tinytl.memory.table import curve_text, memory_row, row_text

    curve = memory_curve(config)
    text = curve_text(config, curve)
    if args.json:
        row = memory_row(config, args.measure) | {"curve": [dataclasses.asdict(plan) for plan in curve]}
        print(json.dumps(row, indent=2))
    else:
        of_fastest = f"{row_text(config, memory_row(config, True))}\n\n" if args.measure else ""
        print(before + of_fastest + text)
    if args.figure:
        from tinytl.plots.memory_curve import plot_curve

        plot_curve(curve, text.partition(":")[0], Path(args.figure))
