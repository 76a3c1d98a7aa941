"""Moments in 8 bits, and gradients that are released: memory and time of a step.

Predicted peaks come from fake tensors, measured ones from the allocator's events. Times are CPU time of one
thread; the two kinds of moments take turns in the same plan, and the ratio of medians counts. Example:

    python -m benchmarks.memory.moments --json benchmarks/results/memory_moments_MACHINE_YYYYMM.json
"""

import argparse
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch

from benchmarks.memory.timed_steps import median_times, prepare_step
from benchmarks.shared.machine import write_result
from tinytl.config.names import MOMENTS
from tinytl.config.plan import describe, releases_gradients
from tinytl.config.train_config import TrainConfig
from tinytl.memory.measured_step import measure_memory
from tinytl.memory.predict import predict_memory, resolve_plan

STEPS = (
    ("FT-Full", "smallest", 224, 8),
    ("FT-Full", "smallest", 224, 1),
    ("FT-Full", "fast", 224, 8),
    ("FT-Full", "fast", 96, 8),
    ("TinyTL-L+B", "smallest", 224, 8),
    ("TinyTL-L+B", "fast", 224, 8),
)
"""Method, plan, resolution and batch size."""
PREDICTED_TIME: Mapping[tuple[str, str, int], float] = {
    ("FT-Full", "smallest", 224): 1.03,
    ("FT-Full", "fast", 224): 1.03,
    ("FT-Full", "fast", 96): 1.15,
    ("TinyTL-L+B", "smallest", 224): 1.01,
    ("TinyTL-L+B", "fast", 224): 1.01,
}
"""Time with int8 moments over that with float32 moments at batch 8, as it was expected before it was
measured: 5 ns per trained number."""


def config_of(method: str, plan: str, resolution: int, batch_size: int, moments: str) -> TrainConfig:
    """Returns the planned configuration of one row; both kinds of moments have the plan of float32."""
    config = TrainConfig(
        backbone="mobilenet_v2", weights="none", method=method, norm="frozen_bn", num_classes=10,
        resolution=resolution, batch_size=batch_size, plan=plan, device="cpu",
    )  # fmt: skip
    return dataclasses.replace(resolve_plan(config), plan="fast", moments=moments)


def rows_of(method: str, plan: str, resolution: int, batch_size: int, rounds: int) -> list[dict[str, object]]:
    """Returns a row for each kind of moments."""
    configs = {m: config_of(method, plan, resolution, batch_size, m) for m in MOMENTS}
    times = median_times({m: prepare_step(config)[0] for m, config in configs.items()}, rounds)
    rows = []
    for moments, config in configs.items():
        predicted = predict_memory(config)
        row: dict[str, object] = {
            "method": method, "plan": plan, "resolution": resolution, "batch_size": batch_size,
            "moments": moments, "way": describe(config), "releases_gradients": releases_gradients(config),
            "predicted_mib": round(predicted.peak_mib, 2), "measured_mib": round(measure_memory(config), 2),
            "moments_mib": round(predicted.parts_mib["optimizer"], 2),
            "gradients_mib": round(predicted.parts_mib["gradients"], 2),
            "step_s": round(times[moments], 4), "to_float32": round(times[moments] / times["float32"], 3),
        }  # fmt: skip
        if moments == "int8" and batch_size == 8:
            row["to_float32_expected"] = PREDICTED_TIME[method, plan, resolution]
        rows.append(row)
    return rows


def main() -> None:
    """Prints the rows and, asked to, writes them as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for step in STEPS:
        for row in rows_of(*step, rounds=args.rounds):
            print(row, flush=True)
            rows.append(row)
    if args.json:
        write_result(args.json, {"backbone": "mobilenet_v2", "rounds": args.rounds, "rows": rows})


if __name__ == "__main__":
    main()
