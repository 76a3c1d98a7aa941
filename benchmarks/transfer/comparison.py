"""Every method under every norm, at a rate tuned on a grid that is wide enough, with three seeds.

A rate is found by successive halving: all of the grid train an epoch of the whole schedule, the better half
goes on to the second, and the best two to the end; the one with the best validation accuracy wins. If that is
the lowest or the highest of the grid, the grid is extended, until it is not. The other seeds then train with
it. Reported is the accuracy on test images, which chose nothing, and the least memory of a step (predicted,
plan `smallest`).

Sparse trains as much as fits a budget: the memory of TinyTL-L+B, and a third less and more. Rows are written
as they end; a call with the same `--json` does those that are missing, `--minutes` says for how long.

    python -m benchmarks.transfer.comparison --dataset imagefolder --data-dir FOLDER \
        --json benchmarks/results/transfer_comparison_MACHINE_YYYYMM.json
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
from typing import Any

from benchmarks.shared.machine import about, row_a_line
from benchmarks.transfer.tuned_runs import add_flags, base_configs
from tinytl.config.train_config import METHODS, NORMS, TrainConfig
from tinytl.errors import ConfigError

Fields = Mapping[str, Any]
Row = dict[str, Any]

GRID = tuple(10 ** (exponent / 2) for exponent in range(-8, -2))
"""From 1e-4 to 3e-2, two a decade."""
WIDEST = range(-12, 1)
"""From 1e-6 to 1, in half decades."""
RUNGS = ((1, 0.5), (2, 2))
"""After so many epochs, so many go on: a share of those that ran, or a number."""
SPARSE_BUDGETS = {"a third less": 2 / 3, "as TinyTL-L+B": 1.0, "a third more": 4 / 3}
"""Budgets of Sparse, in parts of what TinyTL-L+B needs."""
_SPARSE = "Sparse, frozen_bn, as TinyTL-L+B, fisher"
STORED: Mapping[tuple[str, ...], Mapping[str, Fields]] = {
    ("TinyTL-B, frozen_bn", "TinyTL-L+B, frozen_bn", _SPARSE): {
        "int8 frozen weights": {"frozen_weights": "int8"},
        "bfloat16 frozen weights": {"frozen_weights": "bfloat16"},
    },
    ("FT-Full, frozen_bn", "TinyTL-L+B, frozen_bn", _SPARSE): {"int8 moments": {"moments": "int8"}},
}
"""What is trained again with less memory for what is stored, and how it is stored then."""
PREDICTED = {
    "emoji: Sparse at the memory of TinyTL-L+B, top-1 against it": 0.015,
    "FT-Norm+Last is the weakest under frozen_bn": False,
}
"""Written before the first run."""


def variants() -> dict[str, Fields]:
    """Returns what is compared, by name: the fields of each."""
    found: dict[str, Fields] = {
        f"{method}, {norm}": {"method": method, "norm": norm}
        for method in METHODS
        if method not in ("Scratch", "Sparse")
        for norm in NORMS
    }
    for words in SPARSE_BUDGETS:
        for select in ("last", "fisher"):
            name = f"Sparse, frozen_bn, {words}, {select}"
            found[name] = {"method": "Sparse", "norm": "frozen_bn", "select": select, "budget": words}
    found["Sparse, group_norm, as TinyTL-L+B, fisher"] = {
        "method": "Sparse",
        "norm": "group_norm",
        "select": "fisher",
        "budget": "as TinyTL-L+B",
    }
    return found | {
        f"{name}, {words}": found[name] | fields
        for names, stored in STORED.items()
        for words, fields in stored.items()
        for name in names
    }


def row_of(base: TrainConfig, name: str, fields: Fields, seeds: Sequence[int]) -> Row:
    """Trains a variant, and returns its row."""
    import torch

    from tinytl.data.load import load_dataset
    from tinytl.memory.predict import predict_memory
    from tinytl.networks.backbones.weights import read_weights

    torch.set_num_threads(1)
    data = load_dataset(base)
    base = dataclasses.replace(base, num_classes=len(data.classes))
    weights = read_weights(base)
    config = _configured(base, fields, data, weights)
    smallest = dataclasses.replace(config, plan="smallest")
    row: Row = {"dataset": data.name, "backbone": base.backbone, "variant": name}
    row |= {"least_mib": round(predict_memory(smallest).peak_mib, 2), "update_scheme": config.update_scheme}

    def started(lr: float, seed: int) -> "_Run":
        return _Run(dataclasses.replace(config, base_lr=lr, seed=seed), data, weights)

    best, by_lr = tuned(lambda lr: started(lr, seeds[0]), config.epochs)
    runs = [best, *(started(best.lr, seed).to_the_end() for seed in seeds[1:])]
    found = [run.test_accuracy() for run in runs]
    return row | {
        "base_lr": best.lr,
        "accuracy_top1_mean": statistics.mean(found),
        "standard_error": statistics.stdev(found) / math.sqrt(len(found)) if len(found) > 1 else None,
        "accuracy_top1": found,
        "val_accuracy_top1_by_lr": {f"{lr:.3g}": curve for lr, curve in sorted(by_lr.items())},
    }


def tuned(start: Callable[[float], "_Run"], epochs: int) -> tuple["_Run", dict[float, list[float]]]:
    """Returns the run at the best rate, whole, and the validation accuracies of each rate by epoch.

    A rate that diverges is the worst.
    """
    running = [start(lr) for lr in GRID]
    by_lr = {run.lr: run.curve for run in running}
    for epoch, left in RUNGS:
        if epoch < epochs:
            for run in running:
                run.train_until(epoch)
            n_left = left if isinstance(left, int) else math.ceil(left * len(running))
            running = sorted(running, key=_Run.worth, reverse=True)[:n_left]
    best = max((run.to_the_end() for run in running), key=_Run.worth)
    while best.lr in (min(by_lr), max(by_lr)):
        step = -1 if best.lr == min(by_lr) else 1
        half_decade = round(2 * math.log10(best.lr)) + step
        if half_decade not in WIDEST:
            break
        further = start(10 ** (half_decade / 2)).to_the_end()
        by_lr[further.lr] = further.curve
        best = max(best, further, key=_Run.worth)
    return best, by_lr


class _Run:
    """A training run that goes on epoch by epoch."""

    def __init__(self, config: TrainConfig, data: Any, weights: Any) -> None:
        from tinytl.runs.trainer import Trainer

        self.lr = config.base_lr
        self.curve: list[float] = []
        """Validation accuracy by epoch."""
        self._diverged = False
        self._trainer = Trainer(config, data, weights)

    def train_until(self, epoch: int) -> None:
        from tinytl.errors import NonFiniteLossError

        try:
            while len(self.curve) < epoch and not self._diverged:
                self.curve.append(self._trainer.train_epoch().accuracy_top1)
        except NonFiniteLossError:
            self._diverged = True

    def to_the_end(self) -> "_Run":
        self.train_until(self._trainer.config.epochs)
        return self

    def worth(self) -> tuple[float, float]:
        """By the last accuracy, then by the lower rate."""
        return (-1.0 if self._diverged or not self.curve else self.curve[-1], -self.lr)

    def test_accuracy(self) -> float:
        assert self._trainer.data.test is not None
        return self._trainer.evaluate(self._trainer.data.test)[0]


def _configured(base: TrainConfig, fields: Fields, data: Any, weights: Any) -> TrainConfig:
    """Returns the configuration of a variant; of Sparse, with what its budget lets train."""
    from tinytl.memory.predict import predict_memory
    from tinytl.selection.choose import chosen

    own = {key: value for key, value in fields.items() if key != "budget"}
    config = dataclasses.replace(base, **own)
    if config.method != "Sparse":
        return config
    lite = dataclasses.replace(base, method="TinyTL-L+B", norm=config.norm, plan="smallest")
    budget_mib = SPARSE_BUDGETS[fields["budget"]] * predict_memory(lite).peak_mib
    filled = chosen(dataclasses.replace(config, plan="budget", budget_mib=budget_mib), data, weights)
    return dataclasses.replace(config, update_scheme=filled.update_scheme)


def main() -> None:
    """Trains what is missing, prints and writes each row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_flags(parser)
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="variants that begin so")
    parser.add_argument("--minutes", type=float, default=math.inf, help="no row begins after so long")
    args = parser.parse_args()
    rows: list[Row] = json.loads(args.json.read_text())["rows"] if args.json.exists() else []
    known = {(row["dataset"], row["backbone"], row["variant"]) for row in rows}
    bases = base_configs(args)
    dataset = _name_of(next(iter(bases.values())))
    missing = [
        (base, name, fields)
        for name, fields in variants().items()
        for backbone, base in bases.items()
        if name.startswith(tuple(args.only)) and (dataset, backbone, name) not in known
    ]
    settings = {name: getattr(args, name) for name in ("epochs", "resolution", "batch_size", "seeds")}
    with ProcessPoolExecutor(args.processes, get_context("spawn")) as pool:
        for row in _in_time(pool, missing, args.seeds, time.monotonic() + 60 * args.minutes, args.processes):
            rows.append(row | {"settings": settings})
            content = about() | {"predicted_before": PREDICTED, "rows": rows}
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(row_a_line(content))
            print(row["backbone"], row["variant"], row["base_lr"], row["accuracy_top1_mean"], flush=True)


def _in_time(
    pool: ProcessPoolExecutor,
    missing: Sequence[tuple[TrainConfig, str, Fields]],
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


def _name_of(base: TrainConfig) -> str:
    from tinytl.data.load import load_dataset

    return load_dataset(base).name


if __name__ == "__main__":
    os.nice(5)  # a benchmark of accuracies: what is timed goes first
    main()
