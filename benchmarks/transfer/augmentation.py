"""Mixup, CutMix, RandAugment and an average of weights: what each is worth, alone and together, by epochs.

TinyTL-L+B on EfficientNet-Lite0 under frozen batch norm, each variant at a learning rate of its own. A row's
name has the epochs, so one file takes short and long trainings:

    for epochs in 5 20; do
      python -m benchmarks.transfer.augmentation --epochs $epochs --dataset imagefolder --data-dir FOLDER \
          --json benchmarks/results/transfer_augmentation_MACHINE_YYYYMM.json
      python -m benchmarks.transfer.augmentation --epochs $epochs \
          --json benchmarks/results/transfer_augmentation_MACHINE_YYYYMM.json
    done
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from benchmarks.transfer import tuned_runs
from tinytl.config.train_config import TrainConfig

KNOBS: Mapping[str, Mapping[str, Any]] = {
    "mixup": {"mixup_alpha": 0.2},
    "cutmix": {"cutmix_alpha": 1.0},
    "rand_augment": {"rand_augment": 9},
    "weight_average": {"weight_average": 0.99},
}
"""At values that their papers, and torchvision's and timm's recipes, begin with; the average is over about
the last 100 steps."""
PREDICTED = {
    "top-1 against none, points": {
        "5 epochs": {"mixup": -1.0, "cutmix": -2.0, "rand_augment": -1.0, "weight_average": 0.5, "all": -3.0},
        "20 epochs": {"mixup": 0.0, "cutmix": 0.5, "rand_augment": 0.5, "weight_average": 0.5, "all": -0.5},
    },
    "digits: every difference at 20 epochs is within one standard error": True,
    "weight_average is the only one that does not lose at 5 epochs": True,
}
"""Emoji if nothing else is said. Written before the first run."""


def variants_of(base: TrainConfig) -> dict[str, TrainConfig]:
    """Returns what is compared, by name: nothing, each knob alone, and all of them."""
    together = {name: value for fields in KNOBS.values() for name, value in fields.items()}
    chosen = {"none": {}, **KNOBS, "all": together}
    return {
        f"{name}, {base.epochs} epochs": dataclasses.replace(
            base, method="TinyTL-L+B", norm="frozen_bn", **fields
        )
        for name, fields in chosen.items()
    }


if __name__ == "__main__":
    os.nice(5)  # a benchmark of accuracies: what is timed goes first
    tuned_runs.compare(str(__doc__), PREDICTED, variants_of)
