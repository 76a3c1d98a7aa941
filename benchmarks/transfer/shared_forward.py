r"""How long do eight runs of FT-Last take that differ in rate, decay and seed, against one?

On the bundled digits at 96 pixels, batches of 8, three epochs, one thread, as a trial of a study on a CPU
has it: weights are read and plans are settled before. Three programs take turns in this process: one run;
eight, one after the other; and the last of the eight with nothing stored. Each begins with an empty
store. Times are CPU times of the process, the building of networks included: other work on the machine
changes them less than the clock's. The last of the eight must end with the weights, bit for bit, that it
has alone.

Predicted before the first run at this size, for both backbones: 1.25. A run that reads needs two steps
from images, one of them in the profiler that counts the peak (0.3 s), its network and a digest of it (0.1
s), and 405 steps of the classifier at half a millisecond (0.2 s): 0.6 s beside 18 s, seven times.

    python -m benchmarks.transfer.shared_forward \
        --json benchmarks/results/transfer_shared_forward_MACHINE_YYYYMM.json
"""

import argparse
import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch

from benchmarks.shared.machine import write_result
from tinytl.build import build_model
from tinytl.config.train_config import TrainConfig
from tinytl.data.load import DataSplits, load_dataset
from tinytl.features.limit import MOST_MIB, MOST_VARIABLE
from tinytl.networks.backbones.weights import Weights, read_weights
from tinytl.runs.planned_config import planned_config
from tinytl.runs.trainer import Trainer

PREDICTED = 1.25
LIMIT = 1.5
EIGHT = [
    {"base_lr": base_lr, "weight_decay": weight_decay, "seed": seed}
    for base_lr in (3e-4, 1e-3, 3e-3, 1e-2)
    for weight_decay, seed in ((0.0, 0), (1e-2, 1))
]
INSTALLED = ("efficientnet_lite0",)
"""Backbones with weights in a package. Others get one file of random ones: a step needs the same time."""


def seconds_of(
    configs: Sequence[TrainConfig], data: DataSplits, weights: Weights, most_mib: int = MOST_MIB
) -> tuple[list[float], Trainer]:
    """Trains all, the first from an empty store; returns the CPU seconds of each, and the last trainer."""
    seconds = []
    with tempfile.TemporaryDirectory() as cache:
        os.environ |= {"XDG_CACHE_HOME": cache, MOST_VARIABLE: str(most_mib)}
        for config in configs:
            start = time.process_time()
            trainer = Trainer(config, data, weights)
            for _ in range(config.epochs):
                trainer.train_epoch()
            seconds.append(round(time.process_time() - start, 2))
    return seconds, trainer


def same_weights(one: Trainer, other: Trainer) -> bool:
    """Whether two networks are equal, bit for bit."""
    theirs = other.net.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.net.state_dict().items())


def base_config(backbone: str, args: argparse.Namespace, folder: Path) -> TrainConfig:
    """Returns what the eight have in common."""
    config = TrainConfig(
        backbone=backbone, method="FT-Last", norm="frozen_bn", resolution=args.resolution,
        batch_size=8, epochs=args.epochs, num_classes=10, data_seed=0, device="cpu",
    )  # fmt: skip
    if backbone in INSTALLED:
        return config
    torch.manual_seed(0)
    file = folder / f"{backbone}.pt"
    torch.save(build_model(dataclasses.replace(config, weights="none")).net.state_dict(), file)
    return dataclasses.replace(config, weights=str(file))


def rounds_of(base: TrainConfig, n_rounds: int) -> list[dict[str, Any]]:
    """Returns the seconds of one, of the eight, and of the last one alone, for each round."""
    data, weights = load_dataset(base), read_weights(base)
    planned = planned_config(base, data)
    eight = [dataclasses.replace(planned, **changes) for changes in EIGHT]
    rows = []
    for turn in range(n_rounds):
        (one_s,), _ = seconds_of(eight[:1], data, weights)
        eight_s, shared = seconds_of(eight, data, weights)
        (unstored_s,), alone = seconds_of(eight[-1:], data, weights, most_mib=0)
        rows.append(
            {
                "backbone": base.backbone,
                "round": turn + 1,
                "one_s": one_s,
                "eight_s": round(sum(eight_s), 2),
                "ratio": round(sum(eight_s) / one_s, 3),
                "one_with_nothing_stored_s": unstored_s,
                "each_of_eight_s": eight_s,
                "same_bits": same_weights(shared, alone),
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Prints each round and, asked to, writes them as JSON."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--backbones", nargs="+", default=["efficientnet_lite0", "mobilenet_v2"])
    parser.add_argument("--resolution", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            row
            for backbone in args.backbones
            for row in rounds_of(base_config(backbone, args, Path(folder)), args.rounds)
        ]
    ratios = {
        backbone: statistics.median(row["ratio"] for row in rows if row["backbone"] == backbone)
        for backbone in args.backbones
    }
    print(f"eight against one, median ratio of CPU time: {ratios}; predicted {PREDICTED}, at most {LIMIT}")
    if args.json:
        figures = {
            "resolution": args.resolution,
            "epochs": args.epochs,
            "load_average_before": round(load, 2),
            "predicted_before": PREDICTED,
            "limit": LIMIT,
            "median_ratio": ratios,
            "rounds": rows,
        }
        write_result(args.json, figures)


if __name__ == "__main__":
    main()
