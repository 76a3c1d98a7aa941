"""Training runs with their learning rate tuned: every variant gets the same grid, then more seeds.

The rate is chosen by validation accuracy with the first seed; other seeds then run with it. The reported
accuracy is on test images, which chose nothing. Runs are `python -m tinytl train` folders, so a benchmark
that was cut off resumes.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.shared.machine import store_no_features, write_result
from tinytl.config.flags import parse_field
from tinytl.config.flat import config_from_flat, flat_from_config
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError

Run = dict[str, Any]


@dataclass(frozen=True)
class Tuned:
    """One variant: its runs at the learning rate that was best."""

    base_lr: float
    runs: list[Run]
    """A run for each seed that did not diverge: accuracy on test images, curves and memory."""
    by_lr: Mapping[float, float]
    """Validation accuracy of the first seed for each learning rate that was tried."""

    @property
    def flat(self) -> dict[str, Any]:
        """The values in a result file."""
        accuracies = [run["accuracy_top1"] for run in self.runs]
        return {
            "base_lr": self.base_lr,
            "at_the_grid_s_edge": self.base_lr in (min(self.by_lr), max(self.by_lr)),
            "accuracy_top1_mean": statistics.mean(accuracies),
            "accuracy_top1_std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
            "predicted_peak_mib": self.runs[0]["predicted_peak_mib"],
            "measured_peak_mib": self.runs[0]["measured_peak_mib"],
            "epoch_time_s": statistics.median(run["epoch_time_s"] for run in self.runs),
            "val_accuracy_top1_by_lr": {f"{lr:g}": value for lr, value in sorted(self.by_lr.items())},
            "runs": self.runs,
        }


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that these benchmarks share; the published setting only needs other flags."""
    add_setting_flags(parser)
    parser.add_argument("--lrs", type=float, nargs="+", default=[5e-4, 2e-3, 8e-3])
    parser.add_argument("--processes", type=int, default=os.cpu_count())


def add_setting_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `base_configs`, the seeds, and where runs and the result are kept."""
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
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"), help="where runs are kept")
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


def settings(args: argparse.Namespace) -> dict[str, object]:
    """Returns the flags on which accuracies depend, for a result file."""
    names = ("dataset", "epochs", "resolution", "batch_size", "lrs", "seeds")
    return {name: getattr(args, name) for name in names}


def compare(about: str, variants_of: Callable[[TrainConfig], dict[str, TrainConfig]]) -> None:
    """Runs a benchmark that compares variants of each backbone: reads its flags and writes its result."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser)
    args = parser.parse_args()
    rows = [
        {"backbone": name, "variant": variant} | found.flat
        for name, base in base_configs(args).items()
        for variant, found in tuned(variants_of(base), args).items()
    ]
    write_result(args.json, {"settings": settings(args), "rows": rows})


def tuned(variants: Mapping[str, TrainConfig], args: argparse.Namespace) -> dict[str, Tuned]:
    """Runs every variant with every learning rate, then with every seed at the best one."""
    first, *others = args.seeds
    tries = {(name, lr): _at(config, lr, first) for name, config in variants.items() for lr in args.lrs}
    done = dict(zip(tries, _run_all(list(tries.values()), args), strict=True))
    by_lr = {
        name: {lr: done[name, lr]["val_accuracy_top1"] for lr in args.lrs if done[name, lr]}
        for name in variants
    }
    best = {name: max(found, key=lambda lr: (found[lr], -lr)) for name, found in by_lr.items()}
    more = {(name, seed): _at(variants[name], best[name], seed) for name in variants for seed in others}
    again = dict(zip(more, _run_all(list(more.values()), args), strict=True))
    return {
        name: Tuned(
            best[name],
            [run for run in (done[name, best[name]], *(again[name, seed] for seed in others)) if run],
            by_lr[name],
        )
        for name in variants
    }


def _at(config: TrainConfig, lr: float, seed: int) -> TrainConfig:
    return dataclasses.replace(config, base_lr=lr, seed=seed)


def _run_all(configs: Sequence[TrainConfig], args: argparse.Namespace) -> list[Run]:
    store_no_features()
    folders = [args.runs / _folder_name(config) for config in configs]
    found: list[Run] = []
    with ProcessPoolExecutor(args.processes, get_context("spawn")) as pool:
        for config, run in zip(configs, pool.map(_train, configs, folders), strict=True):
            found.append(run)
            shown = f"{run['accuracy_top1']:.3f}" if run else "diverged"
            print(
                f"{config.backbone} {config.method} lr {config.base_lr:g} seed {config.seed}: {shown}",
                flush=True,
            )
    return found


def _train(config: TrainConfig, folder: Path) -> Run:
    """Trains one configuration, or reads the result of an earlier call; empty if training diverged."""
    import torch

    from tinytl.errors import NonFiniteLossError
    from tinytl.runs.progress import PlainProgress
    from tinytl.runs.run import train_run

    torch.set_num_threads(1)
    if not (folder / "result.json").exists():
        try:
            train_run(config, folder, PlainProgress(lambda line: None), resume=True)
        except NonFiniteLossError:
            return {}
    result = json.loads((folder / "result.json").read_text())
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    test = result["test_accuracy_top1"]
    return {
        "seed": config.seed,
        "accuracy_top1": result["val_accuracy_top1"] if test is None else test,
        "judged_on": "val" if test is None else "test",
        "val_accuracy_top1": result["val_accuracy_top1"],
        "predicted_peak_mib": result["predicted_peak_mib"],
        "measured_peak_mib": result["measured_peak_mib"],
        "epoch_time_s": statistics.median(row["epoch_time_s"] for row in rows),
        "val_curve": [row["accuracy_top1"] for row in rows],
        "loss_curve": [row["loss"] for row in rows],
    }


def _folder_name(config: TrainConfig) -> str:
    """Returns a name that no other configuration has."""
    flat = {k: v for k, v in flat_from_config(config).items() if k != "data_dir"}
    digest = hashlib.sha256(json.dumps(flat, sort_keys=True, default=str).encode()).hexdigest()[:10]
    return f"{config.backbone}-{config.method}-lr{config.base_lr:g}-seed{config.seed}-{digest}"


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
