"""The memory of Sparse, of frozen weights in 8 bits and of moments in 8 bits: predicted and measured.

MobileNetV2 at 224 px, the gradient of 8 samples, Adam, 10 classes: with all 8 in memory at a time (lean,
nothing recomputed) and by the plan that needs least. Measured is what the allocator reports of a real step,
on one thread.

    python -m benchmarks.memory.sparse --json benchmarks/results/memory_sparse_MACHINE_YYYYMM.json
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import torch

from benchmarks.shared.machine import write_result
from tinytl.config.plan import lean_plan
from tinytl.config.train_config import TrainConfig
from tinytl.memory.measured_step import measure_memory
from tinytl.memory.predict import predict_memory, resolve_plan

BASE = TrainConfig(
    backbone="mobilenet_v2", weights="none", norm="frozen_bn", num_classes=10, resolution=224, batch_size=8,
    device="cpu",
)  # fmt: skip
SPARSE = {"method": "Sparse", "update_blocks": 6, "update_layers": "pw1"}
ROWS: tuple[tuple[str, dict[str, Any], str, float | None, float | None], ...] = (
    ("Sparse, six blocks pw1", SPARSE, "whole batch", 47, 40),
    ("Sparse, six blocks pw1", SPARSE, "smallest", 24.5, None),
    ("Sparse, six blocks pw1, int8", SPARSE | {"frozen_weights": "int8"}, "smallest", None, 17),
    ("Sparse, half the channels", SPARSE | {"channel_ratio": 0.5}, "whole batch", 44, None),
    ("Sparse, half the channels", SPARSE | {"channel_ratio": 0.5}, "smallest", 22, None),
    ("TinyTL-B", {"method": "TinyTL-B"}, "smallest", None, None),
    ("TinyTL-B, int8", {"method": "TinyTL-B", "frozen_weights": "int8"}, "smallest", 13, 11.5),
    ("TinyTL-B, bfloat16", {"method": "TinyTL-B", "frozen_weights": "bfloat16"}, "smallest", None, None),
    ("TinyTL-L+B", {"method": "TinyTL-L+B"}, "smallest", None, None),
    (
        "TinyTL-L+B, int8 and 8-bit moments",
        {"method": "TinyTL-L+B", "frozen_weights": "int8", "moments": "int8"},
        "smallest",
        23,
        20,
    ),
    ("FT-Full", {"method": "FT-Full"}, "smallest", None, None),
    ("FT-Full, 8-bit moments", {"method": "FT-Full", "moments": "int8"}, "smallest", 39, 34),
)
"""Name, fields, how it runs, and the most MiB that it must, and should, need."""


def main() -> None:
    """Prints and writes the table."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, fields, how, must, aim in ROWS:
        config = dataclasses.replace(BASE, **fields)
        if how == "smallest":
            config = resolve_plan(dataclasses.replace(config, plan="smallest"))
        else:
            config = lean_plan(config)
        predicted = predict_memory(config)
        row = {
            "name": name,
            "runs": how,
            "micro_batch_size": config.micro_batch_size,
            "checkpoint": config.checkpoint,
            "predicted_mib": round(predicted.peak_mib, 2),
            "measured_mib": round(measure_memory(config), 2),
            "must_mib": must,
            "aim_mib": aim,
            "parts_mib": {part: round(mib, 2) for part, mib in predicted.parts_mib.items()},
        }
        rows.append(row)
        print(*(f"{value}" for key, value in row.items() if key != "parts_mib"), sep="  ", flush=True)
    write_result(args.json, {"rows": rows})


if __name__ == "__main__":
    main()
