"""Moments in 8 bits against moments of 32: accuracy on test images, same seeds, same learning rate.

With one `--lrs` nothing is tuned: the rows of a method differ in `moments` alone. The default is the one of
the table in docs/memory.md; a run takes seconds to a minute on a core.
"""

import dataclasses

from benchmarks.transfer.methods import variant
from benchmarks.transfer.tuned_runs import compare
from tinytl.config.train_config import MOMENTS, TrainConfig

METHODS = ("TinyTL-L+B", "FT-Full")


def variants_of(base: TrainConfig) -> dict[str, TrainConfig]:
    """Returns both methods with both kinds of moments."""
    return {
        f"{method} {moments}": dataclasses.replace(variant(base, method), moments=moments)
        for method in METHODS
        for moments in MOMENTS
    }


if __name__ == "__main__":
    compare(__doc__ or "", variants_of)
