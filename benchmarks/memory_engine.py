"""Peak memory and step time of one optimiser step, stock against lean, by method, norm and micro-batch.

The allocator is the judge: events of torch's profiler, plus parameters, buffers, moments and the batch.
CPU times are paired: stock (contiguous and channels_last) and lean take turns, the least counts.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch
from torch import Tensor

from tinytl.build import build_model
from tinytl.config import TrainConfig
from tinytl.measure import PeakMeter
from tinytl.memory_efficient import Execution, make_memory_efficient_
from tinytl.training_step import InputNormalizer, build_optimizer, training_step

METHODS = ("FT-Last", "TinyTL-B", "TinyTL-L+B", "FT-Norm+Last", "FT-Full")
RECOMPUTE = ("none", "depthwise", "block")


def stepper(
    config: TrainConfig, how: Execution | None, channels_last: bool = True
) -> tuple[Callable[[], None], PeakMeter]:
    """Returns a step to call again and again, and a meter for one such step."""
    torch.manual_seed(0)
    net = build_model(config).net
    if how is not None:
        make_memory_efficient_(net, how)
    if not channels_last:
        net = net.to(memory_format=torch.contiguous_format)
    optimizer = build_optimizer(net, config)
    normalize: Callable[[Tensor], Tensor] = InputNormalizer(config, torch.device("cpu"))
    if not channels_last:
        inner = normalize
        normalize = lambda images: inner(images).contiguous()  # noqa: E731
    shape = (config.batch_size, 3, config.resolution, config.resolution)
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    images = images.contiguous(memory_format=torch.channels_last) if channels_last else images
    labels = torch.zeros(config.batch_size, dtype=torch.int64)

    def step() -> None:
        training_step(
            net, optimizer, normalize, images, labels,
            micro_batch_size=config.samples_in_memory, label_smoothing=0.1,
        )  # fmt: skip

    step()
    return step, PeakMeter(net, optimizer, (images, labels))


def peak_mib(config: TrainConfig, how: Execution | None) -> float:
    """Measures a step's peak."""
    step, meter = stepper(config, how)
    with meter:
        step()
    return meter.peak_mib


def paired_times(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Returns the least CPU time of each step, in seconds on one thread, taking turns."""
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.process_time()
            step()
            best[name] = min(best[name], time.process_time() - start)
    return best


def main() -> None:
    """Prints the table and, asked to, writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--norms", nargs="+", default=("frozen_bn", "group_norm"))
    parser.add_argument("--micro", nargs="+", type=int, default=(8, 1))
    parser.add_argument("--recompute", nargs="+", default=RECOMPUTE)
    parser.add_argument("--slice-mib", type=float)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--no-stock", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for norm in args.norms:
        for method in args.methods:
            for micro in args.micro:
                config = TrainConfig(
                    backbone=args.backbone,
                    weights="none",
                    method=method,
                    norm=norm,
                    num_classes=10,
                    batch_size=8,
                    micro_batch_size=micro,
                    resolution=224,
                    engine="stock",
                    optimizer="adam",
                    device="cpu",
                )
                ways = {r: Execution(recompute=r, slice_mib=args.slice_mib) for r in args.recompute}
                row: dict[str, object] = {"norm": norm, "method": method, "micro": micro}
                row |= {"stock_mib": None if args.no_stock else round(peak_mib(config, None), 1)}
                row |= {f"{r}_mib": round(peak_mib(config, way), 1) for r, way in ways.items()}
                if args.rounds:
                    steps = {r: stepper(config, way)[0] for r, way in ways.items()}
                    steps |= {f"stock_{f}": stepper(config, None, f == "cl")[0] for f in ("cl", "nchw")}
                    times = paired_times(steps, args.rounds)
                    stock = min(times["stock_cl"], times["stock_nchw"])
                    row |= {"stock_s": round(stock, 3)} | {f"{r}_x": round(times[r] / stock, 2) for r in ways}
                rows.append(row)
                print("  ".join(f"{k}={v}" for k, v in row.items()), flush=True)
    if args.json:
        args.json.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
