"""Whether plans hold: `fast` against stock over input sizes, predicted slowdowns against measured ones.

`fast`: process CPU time of a step, one thread, stock (channels_last and contiguous), lean and fast in turns;
ratios of medians to the faster stock. `order`: every lean choice of the planner for one configuration, its
measured time and the predicted one, both relative to the fastest. Example, and what `--json` is for:

    python -m benchmarks.memory.plan_time --json benchmarks/results/plan_time_MACHINE_YYYYMM.json
"""

import argparse
import dataclasses
import os
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""

import torch

from benchmarks.memory.timed_steps import median_times, prepare_step
from benchmarks.shared.machine import write_result
from tinytl.config.plan import choices, lean_plan
from tinytl.config.train_config import TrainConfig
from tinytl.memory.predict import needs_of, resolve_plan
from tinytl.step_time.fastest_format import fastest_format

CASES = (
    ("TinyTL-L+B", "frozen_bn"),
    ("TinyTL-B", "group_norm"),
    ("FT-Full", "group_norm"),
    ("FT-Last", "frozen_bn"),
)
INPUTS = ((32, 2), (32, 8), (32, 32), (64, 8), (96, 4), (96, 8), (160, 1), (160, 8), (224, 1), (224, 8))
"""Resolution in pixels and batch size."""
LONG_RUN = 10_000
"""Steps: so many that measuring the formats is worth it."""
ORDER_CASES = (("TinyTL-L+B", "group_norm"), ("FT-Full", "frozen_bn"))


def config_of(backbone: str, method: str, norm: str, resolution: int, batch_size: int) -> TrainConfig:
    """Returns the configuration of one measurement."""
    return TrainConfig(
        backbone=backbone, weights="none", method=method, norm=norm, num_classes=10,
        resolution=resolution, batch_size=batch_size, device="cpu",
    )  # fmt: skip


def fast_row(config: TrainConfig, rounds: int) -> dict[str, object]:
    """Returns the time of plan fast, as a long run takes it, of lean blocks and of stock."""
    estimated = resolve_plan(config)
    fast = fastest_format(config, LONG_RUN, threads=1) or estimated
    stock = dataclasses.replace(config, engine="stock")
    steps = {
        "stock": prepare_step(stock)[0],
        "stock_nchw": prepare_step(stock, channels_last=False)[0],
        "lean": prepare_step(lean_plan(config))[0],
    }
    if fast.stock_below_kib:
        steps["fast"] = prepare_step(fast)[0]
    times = median_times(steps, rounds)
    best = min(times["stock"], times["stock_nchw"])
    return {
        "backbone": config.backbone, "method": config.method, "norm": config.norm,
        "resolution": config.resolution, "batch_size": config.batch_size,
        "stock_below_kib": fast.stock_below_kib, "estimated_kib": estimated.stock_below_kib,
        "stock_cpu_s": round(best, 5),
        "fast_to_stock": round(times.get("fast", times["lean"]) / best, 3),
        "lean_to_stock": round(times["lean"] / best, 3),
    }  # fmt: skip


def order_rows(config: TrainConfig, rounds: int) -> list[dict[str, object]]:
    """Returns measured and estimated time of every choice, relative to the fastest of each."""
    found = choices(config)
    times = median_times({choice: prepare_step(choice)[0] for choice in found}, rounds)
    seconds = {choice: needs_of(choice).seconds for choice in found}
    least, estimate = min(times.values()), min(seconds.values())
    return [
        {
            "backbone": config.backbone, "method": config.method, "norm": config.norm,
            "resolution": config.resolution, "micro_batch_size": choice.micro_batch_size,
            "checkpoint": choice.checkpoint, "measured": round(times[choice] / least, 3),
            "estimated": round(seconds[choice] / estimate, 3),
        }
        for choice in found
    ]  # fmt: skip


def main() -> None:
    """Prints both tables and, asked to, writes them as JSON."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--backbones", nargs="+", default=("mobilenet_v2", "efficientnet_lite0"))
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    fast, order = [], []
    for backbone in args.backbones:
        for method, norm in CASES:
            for resolution, batch_size in INPUTS:
                row = fast_row(config_of(backbone, method, norm, resolution, batch_size), args.rounds)
                fast.append(row)
                print("  ".join(map(str, row.values())), flush=True)
    for method, norm in ORDER_CASES:
        for resolution in (96, 224):
            config = config_of(args.backbones[0], method, norm, resolution, 8)
            rows = order_rows(config, args.rounds)
            order += rows
            for row in rows:
                print("  ".join(map(str, row.values())), flush=True)
    if args.json:
        write_result(args.json, {"rounds": args.rounds, "fast": fast, "order": order})


if __name__ == "__main__":
    main()
