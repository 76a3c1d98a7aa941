"""Peak memory and time of one optimiser step, stock and lean, as a `TrainConfig` asks for them.

For each norm and method, with the whole batch at once and in micro-batches of one: stock in both memory
formats, lean without and with recomputing, and `fast`, the default. Memory is predicted (nothing is executed)
and measured by the allocator's events. Time is process CPU time on one thread: all ways of a method take
turns, and the median of the rounds counts. `step_ratio` is relative to the faster of stock's two formats at
the same micro-batch, `step_ratio_whole` to that at the whole batch. Example, and what `--json` is for:

    python -m benchmarks.memory.engine --json benchmarks/results/memory_engine_BACKBONE_MACHINE_YYYYMM.json
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch

from benchmarks.memory.timed_steps import measured_peak_mib, median_times, prepare_step
from benchmarks.shared.machine import write_result
from tinytl.config.names import BACKBONES, METHODS
from tinytl.config.train_config import TrainConfig
from tinytl.memory.measured_step import measure_memory
from tinytl.memory.predict import predict_memory

METHODS_SHOWN = ("FT-Last", "TinyTL-B", "TinyTL-L+B", "FT-Norm+Last", "FT-Full")
STOCK = ("stock", "stock_nchw")


@dataclass(frozen=True)
class Way:
    """One way to take the step: the fields that it sets in the configuration."""

    fields: dict[str, object]
    channels_last: bool = True
    """As `tinytl` builds every net; only stock is also timed contiguous."""


def lean(checkpoint: str) -> Way:
    """Returns the lean engine with every block lean, and `checkpoint` recomputed."""
    return Way({"engine": "lean", "checkpoint": checkpoint, "stock_below_kib": 0.0})


WAYS = {
    "stock": Way({"engine": "stock", "checkpoint": "none"}),
    "stock_nchw": Way({"engine": "stock", "checkpoint": "none"}, channels_last=False),
    "fast": Way({"engine": "lean", "plan": "fast"}),
    "depthwise": lean("depthwise"),
    "all": lean("all"),
}


def row_of(config: TrainConfig, name: str) -> dict[str, object]:
    """Returns a way's memory. Contiguous nets have no prediction: no configuration asks for them."""
    row: dict[str, object] = {
        "norm": config.norm, "method": config.method, "micro_batch_size": config.micro_batch_size, "way": name
    }  # fmt: skip
    if not WAYS[name].channels_last:
        return row | {"predicted_mib": None, "measured_mib": round(measured_peak_mib(config, False), 2)}
    predicted = predict_memory(config)
    return row | {
        "predicted_mib": round(predicted.peak_mib, 2),
        "measured_mib": round(measure_memory(config), 2),
        "peak_at": predicted.peak_at,
    }


def rows_of(config: TrainConfig, micros: list[int], rounds: int) -> list[dict[str, object]]:
    """Returns a row for each micro-batch and way of one norm and method."""
    configs = {
        (micro, name): replace(config, micro_batch_size=micro, **way.fields)
        for micro in micros
        for name, way in WAYS.items()
    }
    rows = [row_of(of_way, name) for (_, name), of_way in configs.items()]
    if not rounds:
        return rows
    steps: dict[tuple[int, str], Callable[[], None]] = {
        (micro, name): prepare_step(of_way, WAYS[name].channels_last)[0]
        for (micro, name), of_way in configs.items()
    }
    times = median_times(steps, rounds)
    stock = {micro: min(times[micro, name] for name in STOCK) for micro in micros}
    for row, ((micro, _), seconds) in zip(rows, times.items(), strict=True):
        row |= {
            "step_cpu_s": round(seconds, 4),
            "step_ratio": round(seconds / stock[micro], 3),
            "step_ratio_whole": round(seconds / stock[max(micros)], 3),
        }
    return rows


def show(row: dict[str, object]) -> None:
    """Prints a row."""
    predicted = "-" if row["predicted_mib"] is None else f"{row['predicted_mib']:.1f}"
    time_s = f"{row['step_cpu_s']:9.3f}{row['step_ratio']:9.2f}" if "step_cpu_s" in row else ""
    print(
        f"{row['norm']:<11}{row['method']:<14}{row['micro_batch_size']:>5}  {row['way']:<11}"
        f"{predicted:>10}{row['measured_mib']:>10.1f}{time_s}",
        flush=True,
    )


def main() -> None:
    """Prints the table and, asked to, writes it as JSON."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--backbone", default="mobilenet_v2", choices=BACKBONES)
    parser.add_argument("--methods", nargs="+", default=METHODS_SHOWN, choices=METHODS)
    norms = ("frozen_bn", "group_norm")
    parser.add_argument("--norms", nargs="+", default=norms, choices=norms)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=9, help="timed steps of each way; 0: no times")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    columns = f"{'norm':<11}{'method':<14}{'micro':>5}  {'way':<11}{'predicted':>10}{'measured':>10}"
    print(f"{columns}{'CPU s':>9}{'x stock':>9}")
    rows: list[dict[str, object]] = []
    for norm in args.norms:
        for method in args.methods:
            config = TrainConfig(
                backbone=args.backbone, weights="none", method=method, norm=norm, num_classes=10,
                batch_size=args.batch_size, resolution=args.resolution, optimizer="adam", device="cpu",
            )  # fmt: skip
            micros = sorted({args.batch_size, 1}, reverse=True)
            found = rows_of(config, micros, args.rounds)
            rows += found
            for row in found:
                show(row)
    if args.json:
        figures = {
            "backbone": args.backbone, "batch_size": args.batch_size, "resolution": args.resolution,
            "optimizer": "adam", "rounds": args.rounds, "rows": rows,
        }  # fmt: skip
        write_result(args.json, figures)


if __name__ == "__main__":
    main()
