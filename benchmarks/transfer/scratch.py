"""From scratch with SGD and a cosine, with Adam or AdamW and exponential decay, against fine-tuning.

All train every parameter with batch norm; fine-tuning has the separate rates of the user's report. The
published setting: `--dataset cifar10 --data-dir DIR --backbone mobilenet_v2 --epochs 40 --resolution 224`.
"""

import dataclasses

from benchmarks.transfer.separate_lr import REPORT_RATIO
from benchmarks.transfer.tuned_runs import compare
from tinytl.config.train_config import TrainConfig

PREDICTED = {"fine-tuning against the best from scratch, top-1": 0.15, "best from scratch": "SGD, cosine"}
"""Written before the first run with tuned rates."""


def variants_of(base: TrainConfig) -> dict[str, TrainConfig]:
    """Returns the variants to compare."""
    scratch = dataclasses.replace(
        base, method="Scratch", weights="none", norm="batch_norm", weight_decay=1e-4
    )
    exponential = dataclasses.replace(scratch, lr_schedule="exponential", gamma=0.9)
    return {
        "scratch, SGD, cosine": dataclasses.replace(scratch, optimizer="sgd"),
        "scratch, Adam, exponential": dataclasses.replace(exponential, optimizer="adam"),
        "scratch, AdamW, exponential": dataclasses.replace(exponential, optimizer="adamw"),
        "fine-tuning, Adam, cosine": dataclasses.replace(
            base, method="FT-Full", norm="batch_norm", lr_ratio=REPORT_RATIO
        ),
    }


if __name__ == "__main__":
    compare(str(__doc__), PREDICTED, variants_of)
