"""Predicted against measured peaks of training steps that were drawn at random, over all networks.

A row is a backbone, a method and settings that nothing but a seed chose. Both figures are those of
`python -m tinytl memory --measure`: the prediction runs on fake tensors, the measured step trains.
Configurations that are refused are drawn anew. A call again adds missing rows.

    python -m benchmarks.memory.random_configurations \
        --json benchmarks/results/memory_random_configurations_MACHINE_YYYYMM.json
"""

import argparse
import json
import os
import random
from pathlib import Path
from typing import Any

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

from benchmarks.shared.machine import write_result
from tinytl.commands.curated_backbones import CURATED
from tinytl.config.train_config import TrainConfig
from tinytl.device import with_threads
from tinytl.errors import ConfigError
from tinytl.memory.measured_step import measure_memory
from tinytl.memory.predict import predict_memory

N_CONFIGURATIONS = 40
LIMIT = 0.02
PREDICTED = {"largest |predicted / measured - 1|": LIMIT}
"""Written before the first run."""
BACKBONES = (
    *CURATED,
    "timm/mixnet_s", "timm/hgnetv2_b0", "timm/mobileone_s0", "timm/repvgg_a0", "timm/starnet_s1",
    "timm/convnextv2_atto", "timm/resnet10t", "timm/fastvit_t8", "timm/efficientvit_b0",
    "timm/ghostnetv2_100", "timm/rexnet_100", "timm/lcnet_050", "torchvision/densenet121",
    "torchvision/regnet_x_400mf",
)  # fmt: skip
"""The curated ones, and others that the engine knows less of."""
CHOICES: dict[str, tuple[Any, ...]] = {
    "backbone": BACKBONES,
    "method": (
        "TinyTL-B",
        "TinyTL-L",
        "TinyTL-L+B",
        "FT-Last",
        "FT-Norm+Last",
        "FT-Full",
        "Last-3",
        "Sparse",
    ),
    "norm": ("frozen_bn", "frozen_bn", "group_norm", "batch_norm"),
    "engine": ("lean", "lean", "lean", "stock"),
    "plan": ("fast", "smallest"),
    "checkpoint": ("auto", "auto", "none", "depthwise", "all"),
    "optimizer": ("adam", "adamw", "sgd"),
    "moments": ("float32", "float32", "int8"),
    "frozen_weights": ("float32", "float32", "bfloat16", "int8"),
    "weight_average": (0.0, 0.0, 0.99),
    "batch_size": (1, 2, 3, 4, 8, 12, 16),
    "resolution": (64, 96, 112, 128, 160, 200, 224),
    "n_groups": (1, 2),
    "downsample_ratio": (1, 2, None),
    "expand": (0.5, 1.0),
    "kernel_size": (3, 5),
}

THREADS = (1, 2)
"""Of a step on a CPU: a trial has one, `tinytl train` one per core."""


def draw(rng: random.Random) -> dict[str, Any]:
    """Returns fields of a configuration that is not refused."""
    while True:
        fields = {name: rng.choice(values) for name, values in CHOICES.items()}
        if (fields["backbone"], fields["engine"]) == ("timm/repvgg_a0", "stock"):
            continue  # torch 2.15 ends the process: the weight's gradient of its strided 1 x 1 of images
        fields["micro_batch_size"] = rng.choice([None, max(1, fields["batch_size"] // 2)])
        try:
            predict_memory(config_of(fields))
        except ConfigError:
            continue
        return fields


def config_of(fields: dict[str, Any]) -> TrainConfig:
    """Returns the configuration, of random weights on a CPU."""
    return TrainConfig(**fields, weights="none", num_classes=10, device="cpu")


def row_of(fields: dict[str, Any], threads: int) -> dict[str, Any]:
    """Predicts, then trains two steps, on as many threads."""
    with with_threads(threads):
        predicted = predict_memory(config_of(fields))
        measured = measure_memory(config_of(fields))
    figures = {"threads": threads, "predicted_mib": predicted.peak_mib, "measured_mib": measured}
    return fields | figures | {"off": predicted.peak_mib / measured - 1, "peak_at": predicted.peak_at}


def main() -> None:
    """Measures what is missing; prints and writes every row."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--seeds", type=int, default=2, help="forty configurations of each (default: 2)")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(args.json.read_text())["rows"] if args.json.exists() else []
    done = len(rows)
    for seed in range(args.seeds):
        rng = random.Random(seed)
        for turn in range(N_CONFIGURATIONS):
            fields, threads = draw(rng), rng.choice(THREADS)
            if seed * N_CONFIGURATIONS + turn < done:
                continue
            rows.append({"seed": seed} | row_of(fields, threads))
            print(turn, rows[-1], flush=True)
            write_result(args.json, {"predicted_before": PREDICTED, "rows": rows})


if __name__ == "__main__":
    main()
