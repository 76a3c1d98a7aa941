"""python -m tinytl train | memory: one training run, or what it will take."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from tinytl.config import METHODS, NORMS, TrainConfig, config_from_flat
from tinytl.data import check_data_dir
from tinytl.errors import ConfigError, NonFiniteLossError
from tinytl.flags import OneLineParser, add_config_flags, add_lr_ratio_flag, given_fields

_MEMORY_FLAGS = (
    "backbone method norm batch_size micro_batch_size resolution num_classes optimizer n_groups "
    "downsample_ratio kernel_size expand gn_channel_per_group engine device"
).split()
_CHECKPOINTS = ("none",)


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
    memory.add_argument(
        "--checkpoint", default="none", choices=_CHECKPOINTS, help="recomputed blocks (default: none)"
    )
    memory.add_argument("--measure", action="store_true", help="also run two steps and ask the allocator")
    memory.add_argument("--all", action="store_true", help="a table of every method and norm")
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
    config = config_from_flat({"num_classes": 10} | given_fields(args))
    if not args.all:
        row = _memory_row(config, args.measure)
        print(json.dumps(row, indent=2) if args.json else _memory_text(config, row))
        return 0
    rows = []
    for norm in NORMS:
        for method in METHODS:
            # Micro-batches are not defined under batch norm: there the whole batch is counted.
            micro = None if norm == "batch_norm" else config.micro_batch_size
            variant = dataclasses.replace(config, norm=norm, method=method, micro_batch_size=micro)
            rows.append({"method": method, "norm": norm} | _memory_row(variant, args.measure))
    print(json.dumps(rows, indent=2) if args.json else _memory_table(config, rows))
    return 0


def _memory_row(config: TrainConfig, measure: bool) -> dict[str, Any]:
    from tinytl.measure import process_peak_mib
    from tinytl.memory import measure_memory, predict_memory, stock_inference_peak_mib
    from tinytl.paper_memory import paper_memory

    predicted = predict_memory(config)
    row: dict[str, Any] = {"predicted_peak_mib": predicted.peak_mib}
    if measure:
        row["measured_peak_mib"] = measure_memory(config)
        row["process_peak_mib"] = process_peak_mib()
    row["stock_inference_peak_mib"] = stock_inference_peak_mib(config)
    row["paper_mb"] = paper_memory(config)
    row["breakdown_mib"] = dict(predicted.parts_mib)
    row["peak_at"] = predicted.peak_at
    return row


def _memory_text(config: TrainConfig, row: dict[str, Any]) -> str:
    lines = [
        f"{config.method} on {config.backbone}, {config.norm}, batch {config.batch_size} in micro-batches of "
        f"{config.samples_in_memory}, {config.resolution} px, {config.num_classes} classes",
        f"  predicted peak         {row['predicted_peak_mib']:8.1f} MiB at {row['peak_at']}",
    ]
    if "measured_peak_mib" in row:
        lines.append(f"  measured peak          {row['measured_peak_mib']:8.1f} MiB (allocator)")
        lines.append(f"  whole process          {row['process_peak_mib']:8.1f} MiB (resident)")
    lines.append(f"  stock inference        {row['stock_inference_peak_mib']:8.1f} MiB")
    lines.append(f"  the paper's formula    {row['paper_mb']:8.1f} MB")
    lines += [f"    {part:<20} {mib:8.1f} MiB" for part, mib in row["breakdown_mib"].items()]
    return "\n".join(lines)


def _memory_table(config: TrainConfig, rows: list[dict[str, Any]]) -> str:
    measured = "measured_peak_mib" in rows[0]
    header = f"{'norm':<11} {'method':<13} {'predicted':>10}" + (f" {'measured':>10}" if measured else "")
    lines = [
        f"{config.backbone}, batch {config.batch_size} in micro-batches of {config.samples_in_memory} "
        f"(whole under batch_norm), {config.resolution} px; MiB, paper in MB",
        f"{header} {'paper':>8}  peak at",
    ]
    for row in rows:
        line = f"{row['norm']:<11} {row['method']:<13} {row['predicted_peak_mib']:>10.1f}"
        line += f" {row['measured_peak_mib']:>10.1f}" if measured else ""
        lines.append(f"{line} {row['paper_mb']:>8.1f}  {row['peak_at']}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
