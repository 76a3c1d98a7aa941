"""Memory with batches of 1 and of 64: FT-Full, TinyTL-L and FT-Last on MobileNetV2, 224 px, Adam.

The user's report has the memory of a process on a GPU; here it is the peak of a training step's tensors, by
the allocator's events, of stock PyTorch and of the lean engine under two plans.
"""

import argparse
import itertools
import os
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch

from benchmarks.shared.machine import write_result
from benchmarks.transfer.methods import variant
from tinytl.config.train_config import TrainConfig
from tinytl.memory.measured_step import measure_memory
from tinytl.memory.predict import predict_memory

METHODS = ("FT-Full", "TinyTL-L", "FT-Last")
BATCH_SIZES = (1, 64)
WAYS = {
    "stock": {"engine": "stock"},
    "lean, fast": {},
    "lean, smallest": {"plan": "smallest"},
}


def main() -> None:
    """Predicts and measures each, and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for method, batch_size, (way, fields) in itertools.product(METHODS, BATCH_SIZES, WAYS.items()):
        base = TrainConfig(
            backbone=args.backbone, weights="none", num_classes=10, resolution=args.resolution,
            batch_size=batch_size, device="cpu", **fields,
        )  # fmt: skip
        config = variant(base, method)
        row = {
            "method": method,
            "norm": config.norm,
            "batch_size": batch_size,
            "way": way,
            "predicted_mib": predict_memory(config).peak_mib,
            "measured_mib": measure_memory(config),
        }
        rows.append(row)
        print("  ".join(f"{v:.1f}" if isinstance(v, float) else str(v) for v in row.values()), flush=True)
    write_result(args.json, {"backbone": args.backbone, "rows": rows})


if __name__ == "__main__":
    main()
