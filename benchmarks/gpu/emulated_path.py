"""Is a step on a GPU predicted as it would run? Without a GPU: on its path, with the CPU's kernels.

Forty random configurations. Each is predicted for `device=cuda`, on fake tensors of a GPU. Then real steps of
it run on the CPU along the GPU's path (its slices, masks and norms), and each real storage is followed and
laid out by the rules of PyTorch's allocator for GPUs. What only a GPU knows is not in it: workspaces of cuDNN
and cuBLAS.

    python -m benchmarks.gpu.emulated_path --json benchmarks/results/gpu_emulated_path_MACHINE_YYYYMM.json
"""

import argparse
import dataclasses
import random
import statistics
from pathlib import Path
from typing import Any

import torch

from benchmarks.shared.machine import write_result
from tinytl.build import build_model
from tinytl.config.names import BACKBONES, LITE_METHODS, METHODS, NORMS
from tinytl.config.plan import choices
from tinytl.config.train_config import TrainConfig
from tinytl.device import gpu_emulated
from tinytl.memory.predict import predict_memory
from tinytl.memory.prediction import MemoryPrediction
from tinytl.memory.storage_tracker import StorageTracker
from tinytl.training.step import build_optimizer, random_batch, step_of

CONFIGURATIONS = 40
PREDICTED = {"median": 0.0, "most": 0.01}
"""Relative errors expected before the first run."""


def random_config(rng: random.Random) -> TrainConfig:
    """Returns a planned configuration for a GPU."""
    norm = rng.choice(NORMS)
    method = rng.choice([m for m in METHODS if (m, norm) != ("Scratch", "frozen_bn")])
    lite = {"upsample_type": rng.choice(("bilinear", "nearest"))} if method in LITE_METHODS else {}
    config = TrainConfig(
        backbone=rng.choice(BACKBONES), weights="none", method=method, norm=norm, num_classes=10,
        resolution=rng.choice((64, 96, 128)), batch_size=rng.choice((4, 8, 16)),
        optimizer=rng.choice(("adam", "sgd")), engine=rng.choice(("lean", "lean", "stock")),
        stock_below_kib=0.0, device="cuda", **lite,
    )  # fmt: skip
    return rng.choice(choices(config))


def followed_step(config: TrainConfig) -> MemoryPrediction:
    """Runs two real steps of a planned configuration on the CPU along a GPU's path; returns what the second
    one holds on a GPU.
    """
    return follow(config).prediction()


def follow(config: TrainConfig) -> StorageTracker:
    """Returns what saw the second of those steps."""
    config = dataclasses.replace(config, device="cpu")
    device = torch.device("cpu")
    torch.manual_seed(0)
    with gpu_emulated():
        net = build_model(config).net
        optimizer = build_optimizer(net, config)
        images, labels = random_batch(config, device)
        step = step_of(config, net, optimizer, device)
        step(images, labels)
        tracker = StorageTracker(on_cpu=False, tf32=config.precision == "tf32")
        tracker.add_state(net, optimizer, (images, labels))
        with tracker.modules, tracker:
            step(images, labels)
    return tracker


def shown(config: TrainConfig) -> dict[str, Any]:
    """Returns the fields that name a configuration in a row of results."""
    names = "backbone method norm engine resolution batch_size micro_batch_size checkpoint slice_mib"
    return {name: getattr(config, name) for name in names.split()}


def main() -> None:
    """Prints and writes the predicted and the followed peaks."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--configurations", type=int, default=CONFIGURATIONS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rng = random.Random(0)
    rows: list[dict[str, Any]] = []
    for _ in range(args.configurations):
        config = random_config(rng)
        predicted, followed = predict_memory(config).peak_mib, followed_step(config).peak_mib
        figures = {"predicted_mib": round(predicted, 3), "followed_mib": round(followed, 3)}
        rows.append(shown(config) | figures)
        print(*rows[-1].values(), flush=True)
    off = [abs(row["predicted_mib"] / row["followed_mib"] - 1) for row in rows]
    errors = {"median": round(statistics.median(off), 5), "most": round(max(off), 5)}
    print(f"{len(rows)} configurations: off by {errors}; predicted {PREDICTED}")
    if args.json:
        write_result(args.json, {"predicted_before": PREDICTED, "errors": errors, "rows": rows})


if __name__ == "__main__":
    main()
