"""The training loop: epochs over a data set, repeatable on a CPU for a seed."""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tinytl.build import build_model
from tinytl.config.names import METRICS
from tinytl.config.train_config import TrainConfig
from tinytl.data.batches import labels_in_order, steps_per_epoch
from tinytl.data.load import DataSplits, Split
from tinytl.data.rand_augment import transform_of
from tinytl.device import resolve_device
from tinytl.errors import NonFiniteLossError
from tinytl.features.limit import most_stored_bytes
from tinytl.features.rows import StoredRows
from tinytl.features.shared import SharedFeatures, shared_features
from tinytl.memory.measure import PeakMeter, cublas_workspace_bytes, process_peak_mib
from tinytl.networks.backbones.weights import InputNormalization, Weights
from tinytl.runs.epoch_metrics import EpochMetrics
from tinytl.runs.image_batches import image_batches
from tinytl.runs.planned_config import planned_config
from tinytl.training.captured_step import CapturedStep, Step, planned_step, step_refusal
from tinytl.training.class_weights import class_weights
from tinytl.training.data_parallel import ALONE, Ranks
from tinytl.training.epoch_sums import EpochSums
from tinytl.training.evaluation import evaluate, judge, judgements_of
from tinytl.training.freed_memory import give_back_freed_memory, keep_freed_memory
from tinytl.training.judgements import Judgements
from tinytl.training.lr_schedule import lr_factor
from tinytl.training.mixed_precision import MixedPrecision
from tinytl.training.mixing import as_mixed
from tinytl.training.step import InputNormalizer, build_optimizer, lay_out_moments_, training_step
from tinytl.training.weight_average import WeightAverage

EVAL_BATCH_SIZE = 32
logger = logging.getLogger(__name__)
PROGRESS = ("epoch", "best_epoch", "best_accuracy_top1", "best_score", "measured_peak_mib")
"""Attributes of a trainer that change with its epochs, besides weights and moments."""


class Part(NamedTuple):
    """What a step runs: the network, from images, or its classifier alone, from features."""

    net: nn.Module
    prepare: Callable[[Tensor], Tensor]
    """Makes its input, a micro-batch at a time."""


class Trainer:
    """Trains the network of `config` on `data.train` and judges it on `data.val`, unless that is empty.

    `weights` is the result of `read_weights(config)`, if it was already read.

    Seeds torch's global generator at the start and at every epoch, so that an epoch depends only on the
    weights before it and on the configuration: a run resumed from a checkpoint ends like one that was not
    interrupted. If `ranks` are several processes, each has its share of every batch, and all have the same
    weights and metrics.

    Raises:
        ConfigError: for weights or lite residuals that do not fit, or a memory budget that nothing fits.
    """

    config: TrainConfig
    """As given, with the choices of its plan filled in."""
    account: str
    """Which tensors the weights filled."""
    normalization: InputNormalization
    """The mean and deviation that normalise the input, and their source."""
    epoch: int
    """Epochs trained so far."""
    best_epoch: int
    """The first epoch with the best `metric` of the validation images, the last if there are none of those;
    0 before any.
    """
    best_accuracy_top1: float
    """The validation accuracy of that epoch."""
    best_score: float
    """The metric of that epoch."""
    validated: Judgements | None
    """What was said of the validation images after the last epoch; None before this process trained one, and
    without such images.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: DataSplits,
        weights: Weights | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        config = planned_config(config, data, weights, ranks)
        self._refusal = step_refusal(config, ranks)
        if self._refusal is not None:
            logger.warning("steps run without a CUDA graph: %s", self._refusal)
            config = dataclasses.replace(config, cuda_graph=False)
        self.config = config
        self.ranks = ranks
        self.data = data
        self.device = resolve_device(config.device)
        if config.rand_augment:
            transform_of(config.rand_augment)  # torchvision may be missing
        most_stored_bytes()  # a bad value is found before anything is written
        whole = config.samples_in_memory == config.batch_size // ranks.world_size
        if config.plan == "fast" and whole and config.checkpoint == "none":  # memory is not the limit
            keep_freed_memory()
        else:  # a trial before this one may have kept it
            give_back_freed_memory()
        torch.manual_seed(config.seed)
        built = build_model(self.config, weights)
        self.net = built.net.to(self.device)
        if self.device.type == "cuda":
            cublas_workspace_bytes()  # a part of the peak that a later step measures
        self.account = str(built.account or "random weights")
        self.optimizer = build_optimizer(self.net, config)
        self.average = WeightAverage(self.net, config)
        self._set_normalization(built.normalization)
        self.precision = MixedPrecision(config.precision, self.device)
        self.epoch = 0
        self.best_epoch = 0
        self.best_accuracy_top1 = self.best_score = -1.0
        self.measured_peak_mib: float | None = None
        self.validated: Judgements | None = None
        self.drop_single = config.norm == "batch_norm" and config.batch_size > 1
        self.steps_per_epoch = steps_per_epoch(len(data.train), config.batch_size, self.drop_single)
        self._initial_lr = {group["name"]: group["lr"] for group in self.optimizer.param_groups}
        self._class_weights = class_weights(data.train.labels, config, self.device)
        self._take_step = self._planned_step()

    def train_epoch(self, on_images: Callable[[int], None] | None = None) -> EpochMetrics:
        """Trains one epoch and validates.

        `on_images` is called after each step with the number of images that it saw, in all processes.

        Raises:
            NonFiniteLossError: naming the epoch and the step.
        """
        shared = self._shared
        started = time.perf_counter()
        torch.manual_seed(self.config.seed * 1_000_003 + self.epoch + 1)
        self.net.train()
        sums, seen, read, step = EpochSums(self.device), 0, 0, 0
        self._set_lr(self.epoch * self.steps_per_epoch)
        lr = {group["name"]: group["lr"] for group in self.optimizer.param_groups}
        # A graph replays a whole step: nothing sees what goes into its classifier, and nothing replaces it.
        read_in_steps = None if isinstance(self._take_step, CapturedStep) else shared
        with nullcontext() if read_in_steps is None else read_in_steps.of_epoch(self.epoch) as stored:
            for part, inputs, labels in self._train_batches(stored):  # `enumerate` would keep the last batch
                self._set_lr(self.epoch * self.steps_per_epoch + step)
                batch_size = min(self.config.batch_size, len(self.data.train) - seen)
                sums.add(*self._step(part, inputs, labels, batch_size, first=self.epoch == 0 and step == 0))
                self._check_finite(sums)
                del inputs, labels  # or they would lie beside the next batch while that one is resized
                seen, step = seen + batch_size, step + 1
                read += 0 if part.net is self.net else batch_size
                if on_images is not None:
                    on_images(batch_size)
        loss_sum, correct = sums.read()
        self._check_finite(sums)
        training_time_s = time.perf_counter() - started
        self.epoch += 1
        with nullcontext() if shared is None or not self.data.val else shared.of_validation() as stored:
            found = self.validated = self._validate(stored)
        read += 0 if stored is None else len(self.data.val)
        self._keep_best(found)
        return EpochMetrics(
            epoch=self.epoch,
            loss=loss_sum / seen,
            train_accuracy_top1=correct / seen,
            **_validation_figures(found, self.config.metric),
            lr=lr,
            epoch_time_s=time.perf_counter() - started,
            images_per_s=seen / training_time_s,
            measured_peak_mib=self.measured_peak_mib,
            process_peak_mib=process_peak_mib(),
            features_read=read / (seen + len(self.data.val)),
        )

    def _step(
        self, part: Part, inputs: Tensor, labels: Tensor, batch_size: int, first: bool
    ) -> tuple[Tensor, Tensor]:
        """Takes a step with this process's share of `batch_size` samples; returns loss and hits.

        Measures the first full batch after the run's first step, because only then the optimiser has its
        state.
        """
        full = batch_size == min(self.config.batch_size, len(self.data.train))
        measure_now = self.measured_peak_mib is None and full and not first
        recorded = isinstance(self._take_step, CapturedStep)
        batch = (inputs, labels, *self.average.tensors)
        with PeakMeter(self.net, self.optimizer, batch, enabled=measure_now, recorded=recorded) as meter:
            if part.net is self.net:
                watched = {"after_forward": meter.read_so_far} if measure_now and not recorded else {}
                loss, correct = self._take_step(inputs, labels, batch_size=batch_size, **watched)
            else:
                loss, correct = training_step(
                    part.net,
                    self.optimizer,
                    part.prepare,
                    inputs,
                    labels,
                    micro_batch_size=self.config.samples_in_memory,
                    label_smoothing=self.config.label_smoothing,
                    class_weights=self._class_weights,
                    precision=self.precision,
                    batch_size=batch_size,
                )
            self.average.update()
        if measure_now:
            self.measured_peak_mib = meter.peak_mib
        return loss, correct

    @property
    def graph_refusal(self) -> str | None:
        """Why steps run without the CUDA graph that was asked or planned for; None if there is no reason."""
        step = self._take_step
        return step.refusal if isinstance(step, CapturedStep) else self._refusal

    def _check_finite(self, sums: EpochSums) -> None:
        if sums.failed_step is not None:
            raise NonFiniteLossError(
                f"loss is not finite at step {sums.failed_step} of epoch {self.epoch + 1} "
                f"(base_lr={self.config.base_lr:g})"
            )

    def judge_again(self) -> None:
        """Sets `validated` if this process trained no epoch, because the run was resumed at its end.

        All processes of a run have to call it, or none.
        """
        if self.validated is None and self.data.val:
            self.validated = self.evaluate(self.data.val)

    def evaluate(self, images: Split) -> Judgements:
        """Returns what the network says of `images`, with its averaged weights if they are averaged."""
        with self.average.applied():
            return evaluate(
                self.net,
                self.normalize,
                images,
                resolution=self.config.resolution,
                batch_size=self._eval_batch_size,
                precision=self.precision,
                ranks=self.ranks,
                workers=self.config.loader_workers,
            )

    @property
    def _eval_batch_size(self) -> int:
        return min(EVAL_BATCH_SIZE, self.config.batch_size)

    def _keep_best(self, found: Judgements | None) -> None:
        """Notes the epoch that has just ended if it is the best so far."""
        if found is None:
            self.best_epoch = self.epoch
        elif (score := getattr(found, self.config.metric)) > self.best_score:
            self.best_epoch, self.best_score = self.epoch, score
            self.best_accuracy_top1 = found.accuracy_top1

    def _validate(self, stored: StoredRows | None) -> Judgements | None:
        """Does what `evaluate` does on the validation images, from their features if they are `stored`.

        Returns None if there are no such images.
        """
        images = self.data.val
        if not images:
            return None
        if stored is None:
            return self.evaluate(images)
        self.net.eval()
        batches = stored.batches(images.labels, self._eval_batch_size, self.device)
        try:
            with self.average.applied():
                return judgements_of(judge(*self._head, batches, self.precision), images.labels)
        except OSError as error:
            logger.warning("%s: the validation starts from images", error)
            return self.evaluate(images)

    @cached_property
    def _shared(self) -> SharedFeatures | None:
        """The features that this run shares, with the weights that it has now; None if it shares none."""
        if self.ranks.world_size > 1:
            return None
        return shared_features(self.config, self.net, self.data, self.normalization, self.device)

    @property
    def _head(self) -> Part:
        # A micro-batch of its own: where a tensor begins in memory may change the last bit of a product.
        return Part(self.net.get_submodule("classifier"), torch.clone)

    def state_dict(self) -> dict[str, Any]:
        """Returns all that a later `load_state_dict` on an equal configuration needs to resume exactly.

        `net` has the averaged weights if they are averaged, `weight_average` those that train on.
        """
        with self.average.applied():
            net = self.net.state_dict()
        return {
            "net": net,
            "weight_average": self.average.state_dict(),
            # For users of the checkpoint as weights.
            "input_mean": self.normalization.mean,
            "input_std": self.normalization.std,
            "input_from": self.normalization.source,
            "account": self.account,
            "optimizer": self.optimizer.state_dict(),
            "precision": self.precision.state_dict(),
            "graph_refusal": self.graph_refusal,
            **{name: getattr(self, name) for name in PROGRESS},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        vars(self).pop("_shared", None)  # of the weights so far
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state.get("weight_average", {}))  # older runs had none
        self.optimizer.load_state_dict(state["optimizer"])
        lay_out_moments_(self.optimizer)
        self.precision.load_state_dict(state["precision"])
        self.account = state["account"]
        mean, std = tuple(state["input_mean"]), tuple(state["input_std"])
        self._set_normalization(InputNormalization(mean, std, state["input_from"]))
        for name in PROGRESS:
            # Older runs compared accuracies alone.
            setattr(self, name, state[name] if name in state else state["best_accuracy_top1"])
        if not self.config.cuda_graph:
            self._refusal = state.get("graph_refusal")  # of the run as it began
        self._take_step = self._planned_step()  # a recorded one reads the state before

    def _planned_step(self) -> Step:
        parts = (self.net, self.optimizer, self.normalize, self.precision, self.ranks)
        return planned_step(self.config, *parts, self._class_weights)

    def _set_normalization(self, normalization: InputNormalization) -> None:
        self.normalization = normalization
        config = dataclasses.replace(self.config, input_mean=normalization.mean, input_std=normalization.std)
        self.normalize = InputNormalizer(config, self.device)

    def _train_batches(self, stored: StoredRows | None) -> Iterator[tuple[Part, Tensor, Tensor]]:
        """Yields what each step of the epoch runs, its input and its labels.

        Until a run's peak is measured its steps start from images: a step from stored features needs less.
        """
        first, config = 0, self.config
        if stored is None or self.measured_peak_mib is None:
            whole = Part(self.net, self.normalize)
            for images, labels in self._image_batches():
                first += len(labels)
                yield whole, images, labels
                del images, labels  # or they would lie beside the next batch while that one is resized
                if stored is not None and self.measured_peak_mib is not None:
                    break
        if stored is not None:
            labels_of_all = labels_in_order(self.data.train, config.sampling, config.order_seed, self.epoch)
            try:
                for features, labels in stored.batches(labels_of_all, config.batch_size, self.device, first):
                    step, first = first // config.batch_size, first + len(labels)
                    if config.mixes_pictures:
                        labels = as_mixed(labels, config, self.epoch, step)
                    yield self._head, features, labels
            except OSError as error:
                logger.warning("%s: the rest of the epoch starts from images", error)
                yield from self._rest_from_images(first)

    def _rest_from_images(self, first: int) -> Iterator[tuple[Part, Tensor, Tensor]]:
        """Yields the batches of the epoch from sample `first` on."""
        seen = 0
        for images, labels in self._image_batches():
            seen += len(labels)
            if seen > first:
                yield Part(self.net, self.normalize), images, labels

    def _image_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        return image_batches(
            self.config, self.data, self.epoch, self.device, drop_single=self.drop_single, ranks=self.ranks
        )

    def _set_lr(self, step: int) -> None:
        factor = lr_factor(self.config, step, self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = self._initial_lr[group["name"]] * factor


def _validation_figures(found: Judgements | None, metric: str) -> dict[str, Any]:
    """Returns the fields of `EpochMetrics` that are of validation images; `metric`: what a run goes by."""
    error = None if found is None else found.standard_error(metric)
    figures = {name: getattr(found, name, None) for name in METRICS}
    return figures | {"standard_error": error, "val_loss": getattr(found, "loss", None)}
