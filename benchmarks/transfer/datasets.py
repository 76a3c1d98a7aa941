"""Accuracy by data set: four methods on each, the learning rate tuned for each pair.

`--set NAME` or `--set imagefolder=DIR`, repeated. The published setting names cifar10, cifar100, cub200, cars
and food101 with `--data-dir`s of their own, `--backbone mobilenet_v2 --epochs 40 --resolution 224`.
"""

import argparse

from benchmarks.shared.machine import write_result
from benchmarks.transfer.methods import variant
from benchmarks.transfer.tuned_runs import add_flags, base_configs, settings, tuned

METHODS = ("FT-Last", "TinyTL-B", "TinyTL-L+B", "FT-Full")


def main() -> None:
    """Trains, and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_flags(parser)
    parser.add_argument("--set", action="append", required=True, metavar="NAME[=DIR]", dest="sets")
    args = parser.parse_args()
    rows = []
    for text in args.sets:
        args.dataset, _, folder = text.partition("=")
        args.data_dir = folder or None
        for name, base in base_configs(args).items():
            found = tuned({method: variant(base, method) for method in METHODS}, args)
            rows += [
                {"dataset": args.dataset, "backbone": name, "method": m} | t.flat for m, t in found.items()
            ]
    write_result(args.json, {"settings": settings(args), "rows": rows})


if __name__ == "__main__":
    main()
