"""Training runs with their learning rate tuned by successive halving, a row for each variant.

All rates of a grid train an epoch of the whole schedule, the better half goes on to the second, and the best
two to the end; the one with the best validation accuracy wins. If that is the lowest or the highest of the
grid, the grid is extended, until it is not (or rates become absurd, and the row says `on_edge`). The other
seeds then train with it. Reported is the accuracy on test images, which chose nothing, and the least memory
of a step (predicted, plan `smallest`).

Rows are written as they end. A call with the same `--json` trains those that are missing.
"""

import argparse
import dataclasses
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.shared.machine import about, row_a_line
from tinytl.config.flags import parse_field
from tinytl.config.flat import config_from_flat
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError
from tinytl.files import write_whole

Row = dict[str, Any]
Variants = Mapping[str, TrainConfig]

GRID = tuple(10 ** (exponent / 2) for exponent in range(-8, -2))
"""From 1e-4 to 3e-2, two a decade."""
SETTINGS = ("epochs", "resolution", "batch_size")
"""Fields that a row names: a row that is there counts only for the same."""
WIDEST = range(-12, 1)
"""From 1e-6 to 1, in half decades."""
RUNGS = ((1, 0.5), (2, 2))
"""After so many epochs, so many go on: a share of those that ran, or a number."""


class Run:
    """A training run that goes on epoch by epoch."""

    def __init__(self, config: TrainConfig, data: Any, weights: Any) -> None:
        from tinytl.runs.trainer import Trainer

        self.lr = config.base_lr
        self.val_curve: list[float] = []
        """Validation accuracy by epoch."""
        self.loss_curve: list[float] = []
        """Training loss by epoch."""
        self._diverged = False
        self._trainer = Trainer(config, data, weights)

    def train_until(self, epoch: int) -> None:
        """Trains on, until `epoch` epochs are done or the loss is not finite."""
        from tinytl.errors import NonFiniteLossError

        try:
            while len(self.val_curve) < epoch and not self._diverged:
                found = self._trainer.train_epoch()
                self.val_curve.append(found.accuracy_top1)
                self.loss_curve.append(found.loss)
        except NonFiniteLossError:
            self._diverged = True

    def to_the_end(self) -> "Run":
        """Trains all epochs that are left, and returns itself."""
        self.train_until(self._trainer.config.epochs)
        return self

    def worth(self) -> tuple[float, float]:
        """By the last accuracy, then by the lower rate; a run that diverged is the worst."""
        return (-1.0 if self._diverged or not self.val_curve else self.val_curve[-1], -self.lr)

    def judged(self) -> Row:
        """Returns the accuracy on test images, and the curves."""
        assert self._trainer.data.test is not None
        return {
            "seed": self._trainer.config.seed,
            "accuracy_top1": self._trainer.evaluate(self._trainer.data.test).accuracy_top1,
            "val_curve": self.val_curve,
            "loss_curve": [round(loss, 5) for loss in self.loss_curve],
        }


def tuned(start: Callable[[float], Run], epochs: int) -> tuple[Run, dict[float, list[float]]]:
    """Returns the run at the best rate, whole, and the validation accuracies of each rate by epoch."""
    running = [start(lr) for lr in GRID]
    by_lr = {run.lr: run.val_curve for run in running}
    for epoch, left in RUNGS:
        if epoch < epochs:
            for run in running:
                run.train_until(epoch)
            n_left = left if isinstance(left, int) else math.ceil(left * len(running))
            running = sorted(running, key=Run.worth, reverse=True)[:n_left]
    best = max((run.to_the_end() for run in running), key=Run.worth)
    while best.lr in (min(by_lr), max(by_lr)):
        step = -1 if best.lr == min(by_lr) else 1
        half_decade = round(2 * math.log10(best.lr)) + step
        if half_decade not in WIDEST:
            break
        further = start(10 ** (half_decade / 2)).to_the_end()
        by_lr[further.lr] = further.val_curve
        best = max(best, further, key=Run.worth)
    return best, by_lr


def row_of(config: TrainConfig, name: str, seeds: Sequence[int]) -> Row:
    """Trains a variant, and returns its row. Sparse with a budget trains what the budget lets train."""
    import torch

    from tinytl.data.load import load_dataset
    from tinytl.memory.predict import predict_memory
    from tinytl.networks.backbones.weights import read_weights
    from tinytl.selection.choose import chosen

    torch.set_num_threads(1)
    data, weights = load_dataset(config), read_weights(config)
    if config.plan == "budget":
        scheme = chosen(config, data, weights).update_scheme
        config = dataclasses.replace(config, update_scheme=scheme, plan="fast", budget_mib=None)
    least = predict_memory(dataclasses.replace(config, plan="smallest"))

    def started(lr: float, seed: int) -> Run:
        return Run(dataclasses.replace(config, base_lr=lr, seed=seed), data, weights)

    best, by_lr = tuned(lambda lr: started(lr, seeds[0]), config.epochs)
    runs = [run.judged() for run in (best, *(started(best.lr, seed).to_the_end() for seed in seeds[1:]))]
    found = [run["accuracy_top1"] for run in runs]
    return {
        "dataset": data.name,
        "backbone": config.backbone,
        "variant": name,
        "least_mib": round(least.peak_mib, 2),
        "update_scheme": config.update_scheme,
        "base_lr": best.lr,
        **({"on_edge": True} if best.lr in (min(by_lr), max(by_lr)) else {}),
        "accuracy_top1_mean": statistics.mean(found),
        "standard_error": statistics.stdev(found) / math.sqrt(len(found)) if len(found) > 1 else None,
        "runs": runs,
        "val_accuracy_top1_by_lr": {f"{lr:.3g}": curve for lr, curve in sorted(by_lr.items())},
        "settings": {name: getattr(config, name) for name in SETTINGS},
    }


def check_same_settings(row: Row, config: TrainConfig, seeds: Sequence[int], path: Path) -> None:
    """Checks that a row that is there was made as it would be made now.

    Raises:
        ConfigError: naming the first setting that differs. A row of an older version may not name it.
    """
    now = {name: getattr(config, name) for name in SETTINGS} | {"seeds": list(seeds)}
    was = dict(row.get("settings", {}))
    if "runs" in row:
        was["seeds"] = [run["seed"] for run in row["runs"]]
    changed = next((name for name in now if name in was and was[name] != now[name]), None)
    if changed is not None:
        raise ConfigError(
            f"{path} has a row {row['variant']} of {row['backbone']} with {changed} {was[changed]}, not "
            f"{now[changed]}: give what it was, or another --json"
        )


def compare(description: str, predicted: Row, variants_of: Callable[[TrainConfig], Variants]) -> None:
    """Runs a benchmark that compares variants of each backbone: reads its flags, writes rows as they end."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=raw)
    add_setting_flags(parser)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="variants that begin so")
    parser.add_argument("--minutes", type=float, default=math.inf, help="no row begins after so long")
    args = parser.parse_args()
    rows: list[Row] = json.loads(args.json.read_text())["rows"] if args.json.exists() else []
    known = {(row["dataset"], row["backbone"], row["variant"]): row for row in rows}
    by_name: dict[str, list[TrainConfig]] = {}
    for base, dataset in map(_with_classes, base_configs(args).values()):
        for name, config in variants_of(base).items():
            if not name.startswith(tuple(args.only)):
                continue
            row = known.get((dataset, base.backbone, name))
            if row is None:
                by_name.setdefault(name, []).append(config)
            else:
                check_same_settings(row, config, args.seeds, args.json)
    missing = [(config, name) for name, configs in by_name.items() for config in configs]
    until = time.monotonic() + 60 * args.minutes
    with ProcessPoolExecutor(args.processes, get_context("spawn")) as pool:
        for row in _in_time(pool, missing, args.seeds, until, args.processes):
            rows.append(row)
            args.json.parent.mkdir(parents=True, exist_ok=True)
            write_whole(args.json, row_a_line(about() | {"predicted_before": predicted, "rows": rows}))
            print(row["backbone"], row["variant"], row["base_lr"], row["accuracy_top1_mean"], flush=True)


def _in_time(
    pool: ProcessPoolExecutor,
    missing: Sequence[tuple[TrainConfig, str]],
    seeds: Sequence[int],
    until: float,
    at_a_time: int,
) -> Iterator[Row]:
    waiting = list(missing)
    running = set()
    while waiting or running:
        while waiting and len(running) < at_a_time and time.monotonic() < until:
            running.add(pool.submit(row_of, *waiting.pop(0), seeds))
        if not running:
            return
        done = next(as_completed(running))
        running.remove(done)
        try:
            yield done.result()
        except ConfigError as error:
            print(f"left out: {error}", flush=True)


def _with_classes(base: TrainConfig) -> tuple[TrainConfig, str]:
    """Returns `base` with as many classes as its data set has, and the name of that."""
    from tinytl.data.load import load_dataset

    data = load_dataset(base)
    return dataclasses.replace(base, num_classes=len(data.classes)), data.name


def add_setting_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `base_configs`, the seeds, and where the result is kept."""
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-dir", help="for imagefolder: a val/ without test/ holds the test images")
    parser.add_argument(
        "--backbone",
        action="append",
        metavar="NAME[,FIELD=VALUE...]",
        help="a network, with fields such as weights=FILE,input_mean=0.5; repeat for several",
    )
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--resolution", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"), help="for links to images")
    parser.add_argument("--json", type=Path, required=True)


def base_configs(args: argparse.Namespace) -> dict[str, TrainConfig]:
    """Returns the configuration of each backbone, from the flags.

    Raises:
        ConfigError: for an unknown field or value.
    """
    configs = {}
    for text in args.backbone or ["efficientnet_lite0"]:
        name, *fields = text.split(",")
        flat: dict[str, Any] = {
            "dataset": args.dataset,
            "data_dir": None if args.data_dir is None else str(_with_test(Path(args.data_dir), args.runs)),
            "backbone": name,
            "epochs": args.epochs,
            "resolution": args.resolution,
            "batch_size": args.batch_size,
            "device": "cpu",
        }
        for field in fields:
            key, _, value = field.partition("=")
            flat[key] = parse_field(key, value)
        config = config_from_flat(flat)
        configs[config.backbone] = config
    return configs


def _with_test(root: Path, runs: Path) -> Path:
    """Returns a folder in which the pictures of `val/` are test images, if there are no others.

    Learning rates are chosen by validation images, so results cannot be reported on those. The validation
    images are then cut from `train/`.
    """
    if not root.is_dir():
        raise ConfigError(f"--data-dir {root}: no such folder")
    if (root / "test").exists() or not (root / "val").exists():
        return root
    view = runs / f"{root.resolve().name}-val-as-test"
    view.mkdir(parents=True, exist_ok=True)
    for name, target in (("train", "train"), ("test", "val")):
        if not (view / name).exists():
            (view / name).symlink_to((root / target).resolve(), target_is_directory=True)
    return view
