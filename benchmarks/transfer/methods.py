"""Methods x backbones: accuracy on test images, with the learning rate tuned for each, and memory.

Methods that change weights train with batch norm, as fine-tuning usually does; the others with frozen
statistics, for which the memory figures of TinyTL are made. Lite residuals start at random. A backbone
without weights here gets only its memory (`--memory-only`). The published setting: `--dataset cifar10
--data-dir DIR --backbone mobilenet_v2 --epochs 50 --resolution 224 --lrs 3e-4`.
"""

import argparse
import dataclasses

from benchmarks.shared.machine import write_result
from benchmarks.transfer.tuned_runs import add_flags, base_configs, settings, tuned
from tinytl.config.train_config import TrainConfig
from tinytl.memory.predict import predict_memory

METHODS = ("FT-Last", "TinyTL-B", "TinyTL-L", "TinyTL-L+B", "FT-Norm+Last", "Last-3", "FT-Full")
BATCH_NORM_METHODS = ("FT-Norm+Last", "Last-3", "FT-Full")
PUBLISHED_RESOLUTION = 224


def variant(base: TrainConfig, method: str) -> TrainConfig:
    """Returns `base` with a method and the norm that goes with it."""
    norm = "batch_norm" if method in BATCH_NORM_METHODS else "frozen_bn"
    return dataclasses.replace(base, method=method, norm=norm)


def main() -> None:
    """Trains, prints and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_flags(parser)
    parser.add_argument("--memory-only", action="append", default=[], metavar="BACKBONE")
    args = parser.parse_args()
    bases = base_configs(args)
    variants = {(name, method): variant(base, method) for name, base in bases.items() for method in METHODS}
    results = tuned({f"{name} {method}": config for (name, method), config in variants.items()}, args)
    first = next(iter(bases.values()))
    for name in args.memory_only:
        for method in METHODS:
            base = dataclasses.replace(first, backbone=name, weights="none", input_mean=None, input_std=None)
            variants[name, method] = variant(base, method)
    rows = []
    for (name, method), config in variants.items():
        row = {"backbone": name, "method": method, "norm": config.norm}
        at_both = {}
        for resolution in (config.resolution, PUBLISHED_RESOLUTION):
            at = dataclasses.replace(config, resolution=resolution, num_classes=10)
            at_both[resolution] = {
                "lean_mib": predict_memory(at).peak_mib,
                "stock_mib": predict_memory(dataclasses.replace(at, engine="stock")).peak_mib,
            }
        row["memory"] = at_both
        if f"{name} {method}" in results:
            row |= results[f"{name} {method}"].flat
        rows.append(row)
    write_result(args.json, {"settings": settings(args), "rows": rows})


if __name__ == "__main__":
    main()
