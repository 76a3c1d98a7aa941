r"""Why do lite residuals that start at random gain nothing over the last layer, and what makes them gain?

TinyTL-L with one rate for head and branches had 69.5 % on a folder of emoji where FT-Last had 69.8
(docs/results.md), and the papers' pretrained branches gain 10 to 17 points. Each experiment here asks one
thing (`benchmarks.transfer.lite_experiments`), with a prediction that was written before its first run, and
what was found after it.

Every run is on stock modules, which can be watched: before training and after every epoch, on 32 validation
images, the share of each branch in its block's output (ratio of the 2-norms), the weights of the last norms
and the norms of gradients. Rows are kept in the JSON as they end, so the same command resumes. A row with
`taken_from` is the same run made by an earlier command, and was not watched.

    python -m benchmarks.transfer.lite_branches --dataset imagefolder --data-dir FOLDER \
        --json benchmarks/results/transfer_lite_branches_MACHINE_YYYYMM.json
"""

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.shared.machine import store_no_features, write_result
from benchmarks.transfer.branch_starts import fit_branches_, lite_modules
from benchmarks.transfer.lite_experiments import EXPERIMENTS, Arm
from benchmarks.transfer.tuned_runs import add_setting_flags, base_configs
from tinytl.config.flat import config_from_flat
from tinytl.config.names import LITE_METHODS
from tinytl.config.train_config import TrainConfig
from tinytl.data.batches import eval_batches
from tinytl.data.load import DataSplits, load_dataset
from tinytl.networks.backbones.weights import Weights, read_weights
from tinytl.runs.trainer import Trainer

Row = dict[str, Any]
WATCHED = 32
"""Validation images on which branches are watched."""
WATCHED_PARAMETERS = ("conv1.weight", "conv2.weight", "final_bn.weight")
STARTS: Mapping[str, Callable[[Trainer], object]] = {
    "zero": lambda trainer: None,
    "fitted": fit_branches_,
}
"""How branches start, beyond the product's own way (`zero`: the weight of their last norm is 0)."""


def trains(name: str, parts: str) -> bool:
    """Whether the parameter `name` trains if of the branches only `parts` do: `all` or `norms`."""
    return parts == "all" or ".lite_residual.conv" not in name


def config_of(base: TrainConfig, arm: Arm, seed: int) -> TrainConfig:
    """Returns the configuration of one run, on stock modules, in one pass."""
    changes: dict[str, Any] = {
        "method": arm.method,
        "base_lr": arm.base_lr,
        "epochs": arm.epochs or base.epochs,
        "seed": seed,
        "engine": "stock",
        "checkpoint": "none",
        "micro_batch_size": base.batch_size,
    }
    if arm.method in LITE_METHODS:
        changes["lr_ratio.lite_residual"] = arm.lite_ratio
    return config_from_flat(changes, base)


def train(config: TrainConfig, arm: Arm, data: DataSplits, weights: Weights) -> Row:
    """Trains one arm and watches its branches; returns accuracies (fractions), losses and what was seen."""
    began = time.process_time()
    trainer = Trainer(config, data, weights)
    started = STARTS[arm.start](trainer)
    for name, parameter in trainer.net.named_parameters():
        if not trains(name, arm.parts):
            parameter.requires_grad_(False)
    epochs, seen = [], [watch(trainer)]
    for _ in range(config.epochs):
        epochs.append(trainer.train_epoch())
        seen.append(watch(trainer))
    tested = trainer.evaluate(data.test if data.test is not None else data.val)
    return {
        "test_top1": tested.accuracy_top1,
        "test_loss": tested.loss,
        "val_top1": epochs[-1].accuracy_top1,
        "val_loss": epochs[-1].val_loss,
        "train_loss": epochs[-1].loss,
        "val_curve": [round(epoch.accuracy_top1, 4) for epoch in epochs],
        "loss_curve": [round(epoch.loss, 4) for epoch in epochs],
        "cpu_s": round(time.process_time() - began, 1),
        "fit_error": started,
        "seen": seen if config.method in LITE_METHODS else None,
    }


def watch(trainer: Trainer) -> Row:
    """Returns what the branches are now: shares, weights of last norms, and norms of gradients."""
    modules = lite_modules(trainer.net)
    if not modules:
        return {}
    shares: dict[str, float] = {}
    hooks = [module.register_forward_hook(_note_share(name, shares)) for name, module in modules]
    images, labels = _watched_batch(trainer)
    loss = F.cross_entropy(trainer.net.eval()(trainer.normalize(images)), labels)
    loss.backward()
    for hook in hooks:
        hook.remove()
    norms = {
        kind: _gradient_norm(modules, kind) for kind in ("conv1.weight", "conv2.weight", "final_bn.weight")
    }
    trainer.optimizer.zero_grad()
    gammas = [module.lite_residual.get_parameter("final_bn.weight") for _, module in modules]
    return {
        "branch_share": [round(share, 4) for share in shares.values()],
        "mean_abs_gamma": round(statistics.mean(gamma.detach().abs().mean().item() for gamma in gammas), 4),
        "gradient_norm": norms,
    }


def _note_share(name: str, shares: dict[str, float]) -> Callable[[nn.Module, Any, Tensor], None]:
    def note(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        with torch.no_grad():
            main = module.get_submodule("main_branch")(inputs[0])
            shares[name] = ((output - main).norm() / output.norm()).item()

    return note


def _watched_batch(trainer: Trainer) -> tuple[Tensor, Tensor]:
    return next(eval_batches(trainer.data.val, batch_size=WATCHED, resolution=trainer.config.resolution))


def _gradient_norm(modules: list[tuple[str, Any]], kind: str) -> float:
    gradients = [module.lite_residual.get_parameter(kind).grad for _, module in modules]
    return float(f"{sum(g.square().sum().item() for g in gradients if g is not None) ** 0.5:.3g}")


class Study:
    """The rows so far, in a file that each new row is added to."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.rows: list[Row] = []
        if args.json.exists():
            self.rows = json.loads(args.json.read_text())["rows"]

    def row(self, base: TrainConfig, arm: Arm, seed: int) -> Row:
        """Returns the row of a run, which is trained if the file has none."""
        key = {"backbone": base.backbone, "arm": arm.name, "seed": seed}
        for row in self.rows:
            if key.items() <= row.items():
                return row
        config = config_of(base, arm, seed)
        row = key | dataclasses.asdict(arm) | train(config, arm, *_inputs(base))
        self.rows.append(row)
        self.write()
        print(f"{base.backbone} {arm.name} seed {seed}: {100 * row['test_top1']:.1f} %", flush=True)
        return row

    def write(self) -> None:
        """Writes all rows, with the questions and the means over seeds."""
        names = ("dataset", "epochs", "resolution", "batch_size", "seeds")
        questions = {name: dataclasses.asdict(asked) for name, asked in EXPERIMENTS.items()}
        for name, experiment in EXPERIMENTS.items():
            questions[name]["arms"] = [arm.name for arm in experiment.arms]
        figures = {
            "settings": {name: getattr(self.args, name) for name in names},
            "experiments": questions,
            "means": means(self.rows),
            "rows": self.rows,
        }
        write_result(self.args.json, figures)


def means(rows: list[Row]) -> list[Row]:
    """Returns, for each backbone and arm with several seeds, means and standard errors (fractions)."""
    arms: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        arms.setdefault((row["backbone"], row["arm"]), []).append(row)
    return [
        {
            "backbone": backbone,
            "arm": arm,
            "n_seeds": len(runs),
            "test_top1_mean": statistics.mean(run["test_top1"] for run in runs),
            "test_top1_se": statistics.stdev(run["test_top1"] for run in runs) / len(runs) ** 0.5,
            "train_loss_mean": statistics.mean(run["train_loss"] for run in runs),
        }
        for (backbone, arm), runs in arms.items()
        if len(runs) > 1
    ]


@cache
def _inputs(base: TrainConfig) -> tuple[DataSplits, Weights]:
    return load_dataset(base), read_weights(base)


def main() -> None:
    """Trains what the file has no row of, and writes it."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add_setting_flags(parser)
    parser.add_argument("--experiments", nargs="*", choices=list(EXPERIMENTS), default=list(EXPERIMENTS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    store_no_features()
    study = Study(args)
    for base in base_configs(args).values():
        for experiment in (EXPERIMENTS[name] for name in args.experiments):
            for seed in args.seeds[: experiment.n_seeds]:
                for arm in experiment.arms:
                    study.row(base, arm, seed)
    study.write()


if __name__ == "__main__":
    main()
