"""How many epochs an hour do trials train with their fastest plan, against plans that are drawn?

Twelve configurations of the space `joint` on the bundled digits. Once each trains with micro-batches drawn
from 1, 2, 4 and 8, as the space did before plans left it, and once with the fastest plan. An epoch with its
validation is timed, in turns; CPU time, one thread. The gradient is the same, so accuracies are compared.

    python -m benchmarks.search.plans --json benchmarks/results/search_plans_MACHINE_YYYYMM.json
"""

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import optuna
import torch

from benchmarks.shared.machine import store_no_features, write_result
from search_spaces.space import load_space
from tinytl.config.flat import config_from_flat
from tinytl.config.plan import lean_plan
from tinytl.config.train_config import TrainConfig
from tinytl.data.load import load_dataset
from tinytl.memory.predict import resolve_plan
from tinytl.runs.trainer import Trainer

CONFIGURATIONS = 12
DRAWN = (1, 2, 4, 8)
"""Micro-batches of the old space, if the norm allows any."""
OLD_SMALL_PIXELS, OLD_STOCK_BELOW_KIB = 30_000, 1024.0
"""The old rule: below so many pixels of a micro-batch, small blocks ran as PyTorch's own."""
PREDICTED = 2.0
"""Ratio expected before the first run: drawn micro-batches of 1 take 2 to 3 times the time at 64 px."""
BASE = TrainConfig(dataset="digits", num_classes=10, device="cpu", weights="none", epochs=4)


def drawn(study: optuna.Study) -> tuple[TrainConfig, TrainConfig]:
    """Returns a random configuration of `joint`, with a drawn plan and with its fastest."""
    trial = study.ask()
    config = config_from_flat(load_space("joint").sample_trial(trial), BASE)
    old = config
    if config.norm != "batch_norm":
        old = dataclasses.replace(config, micro_batch_size=trial.suggest_categorical("drawn", DRAWN))
    old = lean_plan(old)
    if old.samples_in_memory * old.resolution**2 < OLD_SMALL_PIXELS:
        old = dataclasses.replace(old, stock_below_kib=OLD_STOCK_BELOW_KIB)
    return old, resolve_plan(config)


def main() -> None:
    """Times an epoch of each, and prints and writes the ratio of epochs an hour."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    store_no_features()
    torch.set_num_threads(1)
    data = load_dataset(BASE, max_resolution=96)
    rows: list[dict[str, Any]] = []
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for index in range(CONFIGURATIONS):
        plans = dict(zip(("drawn", "fastest"), drawn(study), strict=True))
        row: dict[str, Any] = {
            name: getattr(plans["fastest"], name) for name in ("method", "norm", "resolution", "batch_size")
        }
        for name, config in plans.items() if index % 2 else reversed(plans.items()):
            trainer = Trainer(config, data)
            start = time.process_time()
            metrics = trainer.train_epoch()
            row |= {
                f"{name}_micro_batch_size": config.micro_batch_size,
                f"{name}_cpu_s": round(time.process_time() - start, 2),
                f"{name}_accuracy": round(metrics.accuracy_top1, 4),
            }
        rows.append(row)
        print(row, flush=True)
    seconds = {name: sum(row[f"{name}_cpu_s"] for row in rows) for name in ("drawn", "fastest")}
    ratio = round(seconds["drawn"] / seconds["fastest"], 2)
    print(f"epochs an hour, fastest over drawn plans: {ratio}; predicted {PREDICTED}")
    if args.json:
        write_result(args.json, {"predicted_before": PREDICTED, "ratio": ratio, "rows": rows})


if __name__ == "__main__":
    main()
