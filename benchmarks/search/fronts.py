"""Does each pair of a configuration and a plan on a front need what it is said to?

Ten searches of twelve configurations, drawn from those that `benchmarks.search.table` trained, each with its
curve; accuracy against the least memory within a slowdown of 2 gives a front. Of every plan of every
configuration on it the predicted peak is compared with a measured one, and the slowdown with that of real
steps, taken in turns with the other plans of the curve.

    python -m benchmarks.search.fronts --table benchmarks/results/search_table_2cpu_202611.json --json FILE
"""

import argparse
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.search.table import read_table
from benchmarks.shared.machine import write_result
from tinytl.config.flat import config_from_flat
from tinytl.config.plan import Plan, least_within
from tinytl.config.train_config import TrainConfig
from tinytl.memory.curve import memory_curve
from tinytl.memory.measured_step import measure_memory
from tinytl.step_time.measure import measured_seconds

FRONTS, TRIALS = 10, 12
MAX_SLOWDOWN = 2.0
ROUNDS = 3
PREDICTED = {"mib_median": 0.001, "mib_most": 0.01, "slowdown_median": 0.06, "slowdown_most": 0.25}
"""Errors expected before the first run: the oracle's and the calibration's on other networks and sizes."""
BASE = TrainConfig(dataset="digits", num_classes=10, device="cpu", weights="none")


def front_of(found: Sequence[tuple[float, TrainConfig, list[Plan]]]) -> list[tuple[TrainConfig, list[Plan]]]:
    """Returns the configurations that no other beats in accuracy and least memory, with their curves."""
    front: list[tuple[TrainConfig, list[Plan]]] = []
    best = 0.0
    for accuracy, config, curve in sorted(
        found, key=lambda one: (least_within(one[2], MAX_SLOWDOWN).peak_mib, -one[0])
    ):
        if accuracy > best:
            best = accuracy
            front.append((config, curve))
    return front


def pairs_of(config: TrainConfig, curve: Sequence[Plan]) -> list[dict[str, Any]]:
    """Measures every plan of a curve."""
    runs = [plan.of(config) for plan in curve]
    seconds = measured_seconds(runs, ROUNDS)
    return [
        {
            "method": config.method, "norm": config.norm, "resolution": config.resolution,
            "batch_size": config.batch_size, "plan": plan.describe(),
            "predicted_mib": round(plan.peak_memory_mib, 3), "measured_mib": round(measure_memory(run), 3),
            "predicted_slowdown": round(plan.slowdown, 3), "measured_slowdown": round(taken / seconds[0], 3),
        }
        for plan, run, taken in zip(curve, runs, seconds, strict=True)
    ]  # fmt: skip


def main() -> None:
    """Prints and writes the pairs and their errors."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = list(read_table(args.table).values())
    curves: dict[TrainConfig, list[Plan]] = {}
    fronts: list[list[TrainConfig]] = []
    for seed in range(FRONTS):
        found = []
        for row in random.Random(seed).sample(rows, TRIALS):
            config = config_from_flat(row["values"], BASE)
            if config not in curves:
                curves[config] = memory_curve(config)
            found.append((row["accuracy_top1"][-1], config, curves[config]))
        fronts.append([config for config, _ in front_of(found)])
        print(f"front {seed}: {len(fronts[-1])} configurations", flush=True)
    pairs = []
    for config in dict.fromkeys(config for front in fronts for config in front):
        pairs += pairs_of(config, curves[config])
        print(pairs[-1], flush=True)
    off = {
        name: [abs(pair[f"predicted_{name}"] / pair[f"measured_{name}"] - 1) for pair in pairs]
        for name in ("mib", "slowdown")
    }
    errors = {
        f"{name}_{kind}": round(of(values), 4)
        for name, values in off.items()
        for kind, of in (("median", statistics.median), ("most", max))
    }
    print(f"{len(pairs)} pairs: off by {errors}; predicted {PREDICTED}")
    if args.json:
        settings = {"fronts": [len(front) for front in fronts], "predicted_before": PREDICTED}
        write_result(args.json, settings | {"errors": errors, "pairs": pairs})


if __name__ == "__main__":
    main()
