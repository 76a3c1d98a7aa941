"""What is known of a run's epoch after it: losses, accuracies, rates, times and memory."""

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """The metrics of one epoch. Accuracies are fractions; without validation images theirs are None."""

    epoch: int
    """Counted from 1."""
    loss: float
    """Mean training loss, label smoothing included; of mixed pictures, against their mixed labels."""
    train_accuracy_top1: float
    """On the augmented training images, while the weights changed. Of a mixed picture, the class with the
    largest share is correct: the figure stays below what the network would reach on whole pictures."""
    accuracy_top1: float | None
    """On the validation images, after the epoch."""
    balanced_accuracy: float | None
    """On the validation images: each class counts alike."""
    macro_f1: float | None
    """On the validation images: the mean F1 of the classes."""
    standard_error: float | None
    """Of the metric that the run goes by: how far other validation images would move it."""
    val_loss: float | None
    lr: dict[str, float]
    """Learning rate of each parameter group at the epoch's first step."""
    epoch_time_s: float
    """Wall clock of training and validation."""
    images_per_s: float
    """Training images per second, in all processes."""
    measured_peak_mib: float | None
    """Allocator's peak of the first full batch after the run's first step (in which the optimiser has no
    state yet); None if there was none so far."""
    process_peak_mib: float
    """Peak resident size of the process so far: PyTorch's libraries and the images included, so it is of this
    machine and this build of PyTorch."""
    features_read: float
    """Share of the epoch's images, training and validation, whose features a run left that computed them; see
    `tinytl.features`. If it is not 0, the epoch's times say nothing of a device."""

    def flat(self) -> dict[str, Any]:
        """Returns the fields with `lr.GROUP` in place of `lr`."""
        flat = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "lr"}
        return flat | {f"lr.{group}": lr for group, lr in self.lr.items()}
