"""Memory of a step, methods x backbones, lean and stock, beside what was published.

Methods that change weights have batch norm, as in the reports and the paper's baselines; the others frozen
statistics, for which the memory figures of TinyTL are made. Accuracies are in `comparison.py`.

    python -m benchmarks.transfer.methods --json benchmarks/results/transfer_methods_MACHINE_YYYYMM.json
"""

import argparse
import dataclasses
from pathlib import Path

from benchmarks.shared.machine import write_result
from tinytl.config.train_config import TrainConfig
from tinytl.memory.predict import predict_memory

BACKBONES = ("efficientnet_lite0", "mobilenet_v2", "proxylessnas_mobile")
METHODS = ("FT-Last", "TinyTL-B", "TinyTL-L", "TinyTL-L+B", "FT-Norm+Last", "Last-3", "FT-Full")
BATCH_NORM_METHODS = ("FT-Norm+Last", "Last-3", "FT-Full")
RESOLUTIONS = (96, 224)


def variant(base: TrainConfig, method: str) -> TrainConfig:
    """Returns `base` with a method and the norm that goes with it."""
    norm = "batch_norm" if method in BATCH_NORM_METHODS else "frozen_bn"
    return dataclasses.replace(base, method=method, norm=norm)


def memory_of(config: TrainConfig) -> dict[str, float]:
    """Returns the predicted peaks of a step in MiB: lean with its smallest plan, and stock PyTorch."""
    ways = {"lean": {"plan": "smallest"}, "stock": {"engine": "stock"}}
    peaks = {way: predict_memory(dataclasses.replace(config, **fields)) for way, fields in ways.items()}
    return {f"{way}_mib": round(peak.peak_mib, 2) for way, peak in peaks.items()}


def main() -> None:
    """Predicts and writes the table."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    rows = []
    for backbone in BACKBONES:
        base = TrainConfig(backbone=backbone, weights="none", device="cpu", batch_size=8, num_classes=10)
        for method in METHODS:
            config = variant(base, method)
            at = {n: memory_of(dataclasses.replace(config, resolution=n)) for n in RESOLUTIONS}
            rows.append({"backbone": backbone, "method": method, "norm": config.norm, "memory": at})
    write_result(args.json, {"rows": rows})


if __name__ == "__main__":
    main()
