"""The report's table: peak memory and time of a full fine-tuning step, without and with checkpoints.

A checkpoint stands at every inverted residual; FT-Full, stock PyTorch, Adam. Predicted peaks come from fake
tensors, for every batch size; measured ones from the allocator's events, for the sizes of `--measure`. Times
are CPU time of one thread, without and with taking turns, the least of `--rounds`. The figures of the user's
report, to which this is to be compared, are not at hand: the table leaves them out and says so.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch

from tinytl import build, memory
from tinytl.checkpointing import insert_checkpoints_
from tinytl.config import TrainConfig

WAYS = ("none", "all")
"""Of checkpoints: none, or one at every inverted residual."""
NOT_AT_HAND = "The figures of the user's report are not at hand: this table leaves them out."


@contextmanager
def built_with(checkpoint: str) -> Iterator[None]:
    """Lets `tinytl.memory` build its networks without or with checkpoints."""

    def build_model(config: TrainConfig) -> build.Built:
        built = build.build_model(config)
        if checkpoint == "all":
            insert_checkpoints_(built.net)
        return built

    with mock.patch.object(memory, "build_model", build_model):
        yield


def predict(config: TrainConfig, checkpoint: str) -> memory.MemoryPrediction:
    """Predicts a step's peak."""
    with built_with(checkpoint):
        return memory._predict.__wrapped__(config)  # not the cache, which knows nothing of checkpoints


def measure(config: TrainConfig, checkpoint: str) -> float:
    """Measures a step's peak, in MiB."""
    with built_with(checkpoint):
        return memory.measure_memory(config)


def stepper(config: TrainConfig, checkpoint: str) -> Callable[[], None]:
    """Returns a step to call again and again."""
    torch.manual_seed(0)
    device = torch.device("cpu")
    with built_with(checkpoint):
        net = memory.build_model(config).net
    _, step = memory._step(config, net, device)
    images, labels = memory._batch(config, device)
    step(images, labels)
    return lambda: step(images, labels)


def paired_times(config: TrainConfig, rounds: int) -> dict[str, float]:
    """Returns the least CPU time of a step each way, in seconds, taking turns."""
    steps = {way: stepper(config, way) for way in WAYS}
    best = dict.fromkeys(WAYS, float("inf"))
    for _ in range(rounds):
        for way, step in steps.items():
            start = time.process_time()
            step()
            best[way] = min(best[way], time.process_time() - start)
    return best


def rows_of(config: TrainConfig, measures: bool, rounds: int) -> list[dict[str, object]]:
    """Returns a line without and a line with checkpoints."""
    times = paired_times(config, rounds) if measures and rounds else {}
    rows = []
    for way in WAYS:
        predicted = predict(config, way)
        row: dict[str, object] = {
            "backbone": config.backbone,
            "norm": config.norm,
            "batch_size": config.batch_size,
            "checkpoint": way,
            "predicted_mib": round(predicted.peak_mib, 1),
            "measured_mib": round(measure(config, way), 1) if measures else None,
            "step_s": round(times[way], 3) if times else None,
            "peak_at": predicted.peak_at,
        }
        rows.append(row)
    return rows


def machine() -> str:
    """Returns the processor's name and the number of processors."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} processors, one thread"


def main() -> None:
    """Prints the table and, asked to, writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", nargs="+", default=("mobilenet_v2", "proxylessnas_mobile"))
    parser.add_argument("--norms", nargs="+", default=("frozen_bn", "batch_norm"))
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=(1, 8, 16, 32, 64))
    parser.add_argument("--measure", nargs="*", type=int, default=(), help="batch sizes to run for real")
    parser.add_argument("--rounds", type=int, default=0, help="timed steps of each way; 0: no times")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(NOT_AT_HAND)
    head = (
        "backbone",
        "norm",
        "batch_size",
        "checkpoint",
        "predicted_mib",
        "measured_mib",
        "step_s",
        "peak_at",
    )
    widths = (20, 11, 10, 10, 13, 12, 7, 0)
    print("  ".join(name.ljust(width) for name, width in zip(head, widths, strict=True)))
    rows: list[dict[str, object]] = []
    for backbone in args.backbones:
        for norm in args.norms:
            for batch_size in args.batch_sizes:
                config = TrainConfig(
                    backbone=backbone,
                    weights="none",
                    method="FT-Full",
                    norm=norm,
                    num_classes=10,
                    batch_size=batch_size,
                    resolution=args.resolution,
                    engine="stock",
                    optimizer="adam",
                    device="cpu",
                )
                for row in rows_of(config, batch_size in args.measure, args.rounds):
                    rows.append(row)
                    cells = ("-" if row[name] is None else str(row[name]) for name in head)
                    print("  ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)), flush=True)
    if args.json:
        about = {
            "machine": machine(),
            "torch": torch.__version__,
            "command": " ".join(["python -m benchmarks.memory_checkpoint", *sys.argv[1:]]),
            "note": NOT_AT_HAND,
        }
        args.json.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
