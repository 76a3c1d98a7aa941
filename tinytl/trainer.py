"""The training loop: epochs over a data set in memory, repeatable on a CPU for a seed."""

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tinytl.backbones.weights import LoadAccount
from tinytl.batches import eval_batches, steps_per_epoch, train_batches
from tinytl.build import build_model
from tinytl.config import TrainConfig
from tinytl.data import DataSplits, Split
from tinytl.device import resolve_device
from tinytl.errors import NonFiniteLossError
from tinytl.measure import PeakMeter
from tinytl.memory import resolve_plan
from tinytl.planner import is_planned
from tinytl.training_step import InputNormalizer, build_optimizer, training_step

EVAL_BATCH_SIZE = 32


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """What one epoch gave. Accuracies are fractions."""

    epoch: int
    """Counted from 1."""
    loss: float
    """Mean training loss, label smoothing included."""
    train_accuracy_top1: float
    """On the augmented training images, while the weights changed."""
    accuracy_top1: float
    """On the validation images, after the epoch."""
    val_loss: float
    lr: dict[str, float]
    """Learning rate of each parameter group at the epoch's first step."""
    epoch_time_s: float
    """Wall clock of training and validation."""
    measured_peak_mib: float | None
    """Allocator's peak of the run's first full batch after its first step (whose optimiser has no state
    yet); None where there was none so far."""

    def flat(self) -> dict[str, Any]:
        """Returns the fields with `lr.GROUP` in place of `lr`."""
        flat = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "lr"}
        return flat | {f"lr.{group}": lr for group, lr in self.lr.items()}


class Trainer:
    """Trains the network of `config` on `data.train` and judges it on `data.val`.

    `state_dict` holds the backbone's weights where they are read already; else `config.weights` is read.

    Seeds torch's global generator at the start and at every epoch, so that an epoch depends on the weights
    before it and on the configuration only: a run that goes on from a checkpoint ends as one that was not
    interrupted.

    Raises:
        ConfigError: for weights or lite residuals that do not fit, or a memory budget that nothing fits.
    """

    config: TrainConfig
    """As given, with what it left to its plan filled in."""
    account: LoadAccount | None
    """What became of the backbone's weights."""

    def __init__(
        self, config: TrainConfig, data: DataSplits, state_dict: Mapping[str, Tensor] | None = None
    ) -> None:
        config = dataclasses.replace(config, num_classes=len(data.classes))
        # A search has settled the plan, and checked it against the budget, where it asked for the trial.
        self.config = config = config if is_planned(config) else resolve_plan(config)
        self.data = data
        self.device = resolve_device(config.device)
        torch.manual_seed(config.seed)
        built = build_model(self.config, state_dict)
        self.net = built.net.to(self.device)
        self.account = built.account
        self.optimizer = build_optimizer(self.net, config)
        self.normalize = InputNormalizer(config, self.device)
        self.epoch = 0
        self.measured_peak_mib: float | None = None
        self.drop_single = config.norm == "batch_norm" and config.batch_size > 1
        self.steps_per_epoch = steps_per_epoch(len(data.train), config.batch_size, self.drop_single)
        self._initial_lr = {group["name"]: group["lr"] for group in self.optimizer.param_groups}

    def train_epoch(self) -> EpochMetrics:
        """Trains one epoch and validates.

        Raises:
            NonFiniteLossError: naming the epoch and the step.
        """
        started = time.perf_counter()
        torch.manual_seed(self.config.seed * 1_000_003 + self.epoch + 1)
        self.net.train()
        loss_sum, correct, seen = 0.0, 0, 0
        self._set_lr(self.epoch * self.steps_per_epoch)
        lr = {group["name"]: group["lr"] for group in self.optimizer.param_groups}
        for step, (images, labels) in enumerate(self._train_batches()):
            self._set_lr(self.epoch * self.steps_per_epoch + step)
            full = len(labels) == min(self.config.batch_size, len(self.data.train))
            measure_now = self.measured_peak_mib is None and full and (self.epoch > 0 or step > 0)
            with PeakMeter(self.net, self.optimizer, (images, labels), enabled=measure_now) as meter:
                batch_loss, batch_correct = training_step(
                    self.net,
                    self.optimizer,
                    self.normalize,
                    images,
                    labels,
                    micro_batch_size=self.config.samples_in_memory,
                    label_smoothing=self.config.label_smoothing,
                )
            if measure_now:
                self.measured_peak_mib = meter.peak_mib
            loss_sum += batch_loss.item()
            if not math.isfinite(loss_sum):
                raise NonFiniteLossError(
                    f"loss is not finite at step {step + 1} of epoch {self.epoch + 1} "
                    f"(base_lr={self.config.base_lr:g})"
                )
            correct += int(batch_correct.item())
            seen += len(labels)
        self.epoch += 1
        accuracy, val_loss = self.evaluate(self.data.val)
        return EpochMetrics(
            epoch=self.epoch,
            loss=loss_sum / seen,
            train_accuracy_top1=correct / seen,
            accuracy_top1=accuracy,
            val_loss=val_loss,
            lr=lr,
            epoch_time_s=time.perf_counter() - started,
            measured_peak_mib=self.measured_peak_mib,
        )

    @torch.no_grad()
    def evaluate(self, images: Split) -> tuple[float, float]:
        """Returns top-1 accuracy (a fraction) and mean cross entropy on `images`."""
        self.net.eval()
        correct, loss_sum = 0, 0.0
        batch_size = min(EVAL_BATCH_SIZE, self.config.batch_size)
        for batch, labels in eval_batches(
            images, batch_size=batch_size, resolution=self.config.resolution,
            device=self.device, workers=self.config.loader_workers,
        ):  # fmt: skip
            logits = self.net(self.normalize(batch))
            correct += int((logits.argmax(1) == labels).sum().item())
            loss_sum += F.cross_entropy(logits, labels, reduction="sum").item()
        return correct / len(images), loss_sum / len(images)

    def state_dict(self) -> dict[str, Any]:
        """Returns all that a later `load_state_dict` on an equal configuration needs to go on exactly."""
        return {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "measured_peak_mib": self.measured_peak_mib,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken."""
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch = state["epoch"]
        self.measured_peak_mib = state["measured_peak_mib"]

    def _train_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        config, data = self.config, self.data
        return train_batches(
            data.train,
            batch_size=config.batch_size,
            resolution=config.resolution,
            crop_scale_min=data.crop_scale_min if config.crop_scale_min is None else config.crop_scale_min,
            flip=data.flip if config.flip is None else config.flip,
            seed=config.seed,
            epoch=self.epoch,
            drop_single=self.drop_single,
            device=self.device,
            workers=config.loader_workers,
        )

    def _set_lr(self, step: int) -> None:
        factor = cosine_factor(step, self.config.epochs * self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = self._initial_lr[group["name"]] * factor


def cosine_factor(step: int, total_steps: int) -> float:
    """Returns the schedule's factor at `step` (from 0): 1 at the first step, towards 0 at the last."""
    return 0.5 * (1 + math.cos(math.pi * step / total_steps))
