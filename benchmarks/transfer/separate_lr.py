"""Separate learning rates against one learning rate, and against training the last blocks only.

Separate: classifier 1, last five blocks 0.6, the rest 0.4 of the base rate, as the user's report intended.
All train with batch norm, and each has a base rate of its own. The published setting:
`--dataset cifar10 --data-dir DIR --backbone mobilenet_v2 --epochs 40 --resolution 224`.
"""

import dataclasses

from benchmarks.transfer.tuned_runs import compare
from tinytl.config.train_config import LrRatio, TrainConfig

REPORT_RATIO = LrRatio(late=0.6, early=0.4)
PREDICTED = {"separate rates against one rate, top-1": 0.0}
"""Written before the first run with tuned rates."""


def variants_of(base: TrainConfig) -> dict[str, TrainConfig]:
    """Returns the variants to compare."""
    full = dataclasses.replace(base, method="FT-Full", norm="batch_norm")
    return {
        "separate rates": dataclasses.replace(full, lr_ratio=REPORT_RATIO),
        "one rate": full,
        "Last-5": dataclasses.replace(full, method="Last-5"),
        "Last-3": dataclasses.replace(full, method="Last-3"),
    }


if __name__ == "__main__":
    compare(str(__doc__), PREDICTED, variants_of)
