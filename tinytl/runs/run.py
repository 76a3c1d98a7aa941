"""One training run from data to a folder of results."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinytl.config.flat import flat_from_config
from tinytl.config.names import METRICS
from tinytl.config.plan import PLANNED_FIELDS, describe
from tinytl.config.train_config import TrainConfig
from tinytl.data.load import DataSplits, load_dataset
from tinytl.device import resolve_device
from tinytl.library_pages import release_library_pages
from tinytl.memory.measure import process_peak_mib
from tinytl.memory.predict import predict_memory
from tinytl.memory.prediction import MemoryPrediction
from tinytl.networks.backbones.weights import RANDOM_WEIGHTS, Weights
from tinytl.networks.update_scheme import layers_of, scheme_of
from tinytl.runs.checkpoint_file import (
    DamagedCheckpointError,
    check_same_run,
    read_checkpoint,
    save_checkpoint,
    split_sizes,
)
from tinytl.runs.class_skew import check_metric, skew_line, unjudged_line
from tinytl.runs.directory import RunDirectory, with_whole_paths
from tinytl.runs.epoch_metrics import EpochMetrics
from tinytl.runs.judgements_file import save_judgements
from tinytl.runs.progress import PlainProgress
from tinytl.runs.tensorboard import TensorBoard
from tinytl.runs.trainer import Trainer
from tinytl.training.data_parallel import Ranks, joined_ranks, share_of_one
from tinytl.training.judgements import Judgements
from tinytl.training.mixed_precision import backends_restored

PREDICTION_TOLERANCE = 0.1
"""A larger difference between measured and predicted peak is a warning."""
INFERENCE_STATE = ("net", "config", "classes", "epoch", "best_accuracy_top1", "input_mean", "input_std")
"""The parts of a trainer's state in `best.pt`: enough to evaluate and to predict, without the optimiser."""


def train_run(
    config: TrainConfig,
    out: Path,
    progress: PlainProgress,
    *,
    resume: bool = False,
    tensorboard: bool = False,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Trains `config` in the folder `out` (see `RunDirectory`) and returns the content of its `result.json`.

    The test images, if there are any, are read once, after the last epoch. With `resume`, an interrupted run
    continues after its last whole epoch, and ends as it would have. Processes that torchrun started share
    every batch; the first writes, reports, and gets the result. `notes` are reported first, after all checks.

    Raises:
        ConfigError: before anything is written, or if a checkpoint cannot be written; the one before stays.
        NonFiniteLossError: if training diverges; the epochs before stay in `metrics.jsonl`.
    """
    release_library_pages()
    config = with_whole_paths(config)
    data = load_dataset(config, report=progress.report)
    return train_loaded(
        config, data, None, out, progress, resume=resume, tensorboard=tensorboard, notes=notes
    )


def train_loaded(
    config: TrainConfig,
    data: DataSplits,
    weights: Weights | None,
    out: Path,
    progress: PlainProgress,
    *,
    resume: bool = False,
    tensorboard: bool = False,
    notes: Sequence[str] = (),
    wait_s: float = 0,
) -> dict[str, Any]:
    """Does what `train_run` does, on `data` and (unless None) `weights` that are already read.

    `config` has absolute paths. If another run still writes `out`, waits for it up to `wait_s` seconds.

    Raises:
        ConfigError, NonFiniteLossError: as `train_run`.
    """
    check_metric(data, config.metric)
    directory = RunDirectory(out)
    with backends_restored(), joined_ranks(config) as ranks:
        state: dict[str, Any] = {}
        if resume and directory.last.exists():
            try:
                state = read_checkpoint(directory.last, resolve_device(config.device))
                check_same_run(state, config, data, directory.last)
            except DamagedCheckpointError as error:
                notes = [*notes, f"{error}: training begins anew"]
        # A checkpoint has every tensor: the weights that the run began with may be gone.
        begun = _as_begun(config, state, ranks)
        trainer = Trainer(begun, data, RANDOM_WEIGHTS if state else weights, ranks)
        if state:
            trainer.load_state_dict(state)
        predicted = predict_memory(share_of_one(trainer.config, ranks))
        if not ranks.is_first:
            while trainer.epoch < config.epochs:
                trainer.train_epoch()
            trainer.judge_again()
            if data.test is not None:
                trainer.evaluate(data.test)
            return {}
        for note in notes:
            progress.report(note)
        _report_start(progress, trainer, predicted)
        with directory.claimed(wait_s), progress:
            record = _Record(
                directory, trainer, config, state.get("rows", []), predicted.peak_mib, tensorboard
            )
            progress.start(config.epochs * len(data.train), trainer.epoch * len(data.train))
            while trainer.epoch < config.epochs:
                metrics = trainer.train_epoch(progress.advance)
                progress.report(_epoch_line(metrics, config))
                record.epoch(metrics)
            _warn_where_far_off(progress, predicted, trainer.measured_peak_mib)
            trainer.judge_again()
            return record.finish(None if data.test is None else trainer.evaluate(data.test))


def _as_begun(config: TrainConfig, state: Mapping[str, Any], ranks: Ranks) -> TrainConfig:
    """Returns `config` with what trained when the run began, and the plan of one process, whatever would be
    chosen today.
    """
    begun = state.get("config", {})
    names = ["update_scheme"] if ranks.world_size > 1 else ["update_scheme", *PLANNED_FIELDS]
    return dataclasses.replace(config, **{name: begun[name] for name in names if name in begun})


def checkpoint_state(
    trainer: Trainer, given: TrainConfig, rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Returns the content of a run's `last.pt`: the trainer's state, what made it, and its metrics so far.

    `given` is the configuration before its plan was resolved.
    """
    return trainer.state_dict() | {
        "config": flat_from_config(trainer.config),
        "given": flat_from_config(given),
        "classes": list(trainer.data.classes),
        "sizes": split_sizes(trainer.data),
        "digest": trainer.data.digest,
        "rows": list(rows),
    }


class _Record:
    """Writes a run's folder: `config` as given, and `rows`, the metrics of finished epochs."""

    def __init__(
        self,
        directory: RunDirectory,
        trainer: Trainer,
        config: TrainConfig,
        rows: Sequence[Mapping[str, Any]],
        peak_mib: float,
        tensorboard: bool,
    ) -> None:
        self.directory = directory
        self.trainer = trainer
        self.config = config
        self.rows = list(rows)
        self.peak_mib = peak_mib
        directory.start(config, rows)
        board = directory.path / "tensorboard"
        self.board = TensorBoard(board, trainer.epoch) if tensorboard or board.is_dir() else None

    def epoch(self, metrics: EpochMetrics) -> None:
        """Writes an epoch's metrics, then its checkpoints."""
        trainer = self.trainer
        self.rows.append(metrics.flat() | {"peak_memory_mib": self.peak_mib})
        self.directory.append_metrics(self.rows[-1])
        if self.board is not None:
            self.board.add(self.rows[-1])
        state = checkpoint_state(trainer, self.config, self.rows)
        if trainer.best_epoch == trainer.epoch:
            of_inference = {name: state[name] for name in INFERENCE_STATE}
            save_checkpoint(of_inference, self.directory.best)
        save_checkpoint(state, self.directory.last)

    def finish(self, tested: Judgements | None) -> dict[str, Any]:
        """Writes and returns the result; `tested`: of the test images."""
        last, trainer = self.rows[-1], self.trainer
        validated = trainer.validated  # None: there are no validation images
        errors: dict[str, float] = {}
        for prefix, found in (("", validated), ("test_", tested)):
            if found is not None:
                errors |= {f"{prefix}{name}_standard_error": found.standard_error(name) for name in METRICS}
        if validated is not None:
            save_judgements(validated, self.directory.val_judgements)
        result = {
            "train_accuracy_top1": last["train_accuracy_top1"],
            "val_accuracy_top1": last["accuracy_top1"],
            "test_accuracy_top1": None if tested is None else tested.accuracy_top1,
            "balanced_accuracy": None if validated is None else validated.balanced_accuracy,
            "macro_f1": None if validated is None else validated.macro_f1,
            "test_balanced_accuracy": None if tested is None else tested.balanced_accuracy,
            "test_macro_f1": None if tested is None else tested.macro_f1,
            **errors,
            "predicted_peak_mib": self.peak_mib,
            "measured_peak_mib": trainer.measured_peak_mib,
            # Of every process that had a part in it.
            "process_peak_mib": max(
                [process_peak_mib(), *(row.get("process_peak_mib", 0) for row in self.rows)]
            ),
            "metric": trainer.config.metric,
            "best_score": None if validated is None else trainer.best_score,
            "best_val_accuracy_top1": None if validated is None else trainer.best_accuracy_top1,
            "best_epoch": trainer.best_epoch,
            "weights": {
                "account": trainer.account,
                "input_mean": trainer.normalization.mean,
                "input_std": trainer.normalization.std,
                "input_from": trainer.normalization.source,
            },
            "config": flat_from_config(trainer.config),
            "graph_refusal": trainer.graph_refusal,
            "per_class": {
                split: [row._asdict() for row in found.by_class(trainer.data.classes)]
                for split, found in (("val", validated), ("test", tested))
                if found is not None
            },
        }
        self.directory.finish(result)
        if self.board is not None:
            self.board.close()
        return result


def _report_start(progress: PlainProgress, trainer: Trainer, predicted: MemoryPrediction) -> None:
    data, config = trainer.data, trainer.config
    sizes = ", ".join(f"{name} {size}" for name, size in split_sizes(data).items() if size is not None)
    progress.report(data.account or f"{data.name}: {len(data.classes)} classes, {sizes}")
    for line in (skew_line(data, config), unjudged_line(data, config.metric)):
        if line is not None:
            progress.report(line)
    progress.report(f"{config.backbone}: {trainer.account}")
    progress.report(f"input: {trainer.normalization}")
    if config.method == "Sparse":
        progress.report(f"trains {scheme_of(config).describe(layers_of(config))}")
    progress.report(f"plan {config.plan}: {describe(config)}")
    each = f" in each of {trainer.ranks.world_size} processes" if trainer.ranks.world_size > 1 else ""
    progress.report(f"predicted peak {predicted.peak_mib:.1f} MiB{each} at {predicted.peak_at}")
    if trainer.epoch:
        progress.report(f"resuming after epoch {trainer.epoch}")


def _epoch_line(metrics: EpochMetrics, config: TrainConfig) -> str:
    score = ""
    if metrics.accuracy_top1 is not None:
        score = f"val {metrics.accuracy_top1:.3f}  "
    if score and config.metric != "accuracy_top1":
        score += f"{METRICS[config.metric]} {getattr(metrics, config.metric):.3f}  "
    read = f"  ({metrics.features_read:.0%} of features read)" if metrics.features_read else ""
    return (
        f"epoch {metrics.epoch}/{config.epochs}  loss {metrics.loss:.3f}  "
        f"train {metrics.train_accuracy_top1:.3f}  {score}"
        f"{metrics.images_per_s:.0f} images/s  {metrics.epoch_time_s:.1f} s{read}"
    )


def _warn_where_far_off(
    progress: PlainProgress, predicted: MemoryPrediction, measured_mib: float | None
) -> None:
    if measured_mib is not None and abs(predicted.peak_mib / measured_mib - 1) > PREDICTION_TOLERANCE:
        progress.report(
            f"warning: the allocator measured {measured_mib:.1f} MiB, more than {PREDICTION_TOLERANCE:.0%} "
            f"off the predicted {predicted.peak_mib:.1f} MiB"
        )
