"""The report's table: peak memory and time of a full fine-tuning step, without and with checkpoints.

There is a checkpoint at every inverted residual; FT-Full, Adam, on either engine. Predicted peaks come from
fake tensors, for every batch size; measured ones from the allocator's events, for the sizes of `--measure`.
Times are CPU time of one thread; all ways take turns, and the median of `--rounds` counts. The figures of the
user's report are in benchmarks/transfer/published.py.
"""

import argparse
import itertools
import os
from dataclasses import replace
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch

from benchmarks.memory.timed_steps import median_times, prepare_step
from benchmarks.shared.machine import write_result
from tinytl.config.names import BACKBONES, ENGINES, NORMS
from tinytl.config.train_config import TrainConfig
from tinytl.memory.measured_step import measure_memory
from tinytl.memory.predict import predict_memory

WIDTHS = {
    "backbone": 20, "norm": 11, "batch_size": 10, "engine": 6, "checkpoint": 10, "predicted_mib": 13,
    "measured_mib": 12, "step_s": 7, "peak_at": 0,
}  # fmt: skip
"""Columns and their widths."""


def rows_of(config: TrainConfig, engines: list[str], measures: bool, rounds: int) -> list[dict[str, object]]:
    """Returns two rows for each engine, without and with checkpoints."""
    ways = [
        replace(config, engine=engine, checkpoint=checkpoint)
        for engine, checkpoint in itertools.product(engines, ("none", "all"))
    ]
    times = {}
    if measures and rounds:
        times = median_times({way: prepare_step(way)[0] for way in ways}, rounds)
    rows = []
    for way in ways:
        predicted = predict_memory(way)
        row: dict[str, object] = {
            "backbone": way.backbone,
            "norm": way.norm,
            "batch_size": way.batch_size,
            "engine": way.engine,
            "checkpoint": way.checkpoint,
            "predicted_mib": round(predicted.peak_mib, 1),
            "measured_mib": round(measure_memory(way), 1) if measures else None,
            "step_s": round(times[way], 3) if times else None,
            "peak_at": predicted.peak_at,
        }
        rows.append(row)
    return rows


def main() -> None:
    """Prints the table and, asked to, writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    backbones = ("mobilenet_v2", "proxylessnas_mobile")
    parser.add_argument("--backbones", nargs="+", default=backbones, choices=BACKBONES)
    parser.add_argument("--norms", nargs="+", default=("frozen_bn", "batch_norm"), choices=NORMS)
    parser.add_argument("--engines", nargs="+", default=("stock", "lean"), choices=ENGINES)
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=(1, 8, 16, 32, 64))
    parser.add_argument("--measure", nargs="*", type=int, default=(), help="batch sizes to run for real")
    parser.add_argument("--rounds", type=int, default=0, help="timed steps of each way; 0: no times")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("  ".join(name.ljust(width) for name, width in WIDTHS.items()))
    rows: list[dict[str, object]] = []
    for backbone, norm, batch_size in itertools.product(args.backbones, args.norms, args.batch_sizes):
        config = TrainConfig(
            backbone=backbone, weights="none", method="FT-Full", norm=norm, num_classes=10,
            batch_size=batch_size, resolution=args.resolution, optimizer="adam", device="cpu",
        )  # fmt: skip
        for row in rows_of(config, args.engines, batch_size in args.measure, args.rounds):
            rows.append(row)
            cells = ("-" if row[name] is None else str(row[name]) for name in WIDTHS)
            print("  ".join(c.ljust(w) for c, w in zip(cells, WIDTHS.values(), strict=True)), flush=True)
    if args.json:
        figures = {"resolution": args.resolution, "rounds": args.rounds, "rows": rows}
        write_result(args.json, figures)


if __name__ == "__main__":
    main()
