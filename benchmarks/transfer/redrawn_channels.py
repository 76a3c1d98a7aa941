"""Do channels that are drawn anew at every epoch (TraDy) learn more than those drawn once?

Method Sparse, `pw1` of the last six blocks, half of each convolution's input channels. An arm trains the
whole weights with gradients masked to its channels, which are the steps of a half that is stored alone:
Adam leaves a number with no gradient and no moments as it is. Whoever redraws starts those moments anew.

    python -m benchmarks.transfer.redrawn_channels --dataset imagefolder --data-dir FOLDER \
        --json benchmarks/results/transfer_redrawn_channels_MACHINE_YYYYMM.json

Source: Quélennec et al., Study of Training Dynamics for Memory-Constrained Fine-Tuning, 2025 (TraDy).
"""

import argparse
import dataclasses
import json
import os
import statistics
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.shared.machine import write_result
from benchmarks.transfer.tuned_runs import add_setting_flags, base_configs
from tinytl.config.train_config import TrainConfig
from tinytl.data.load import load_dataset
from tinytl.networks.backbones.weights import read_weights
from tinytl.runs.trainer import Trainer


@dataclass(frozen=True)
class Arm:
    """What trains, and when it is drawn."""

    ratio: float
    redrawn: bool = False
    """Whether every epoch draws its channels."""
    anew: bool = False
    """Whether every epoch starts the moments of these weights anew."""


ARMS = {
    "all channels": Arm(1.0),
    "half, drawn once": Arm(0.5),
    "half, drawn once, moments anew at every epoch": Arm(0.5, anew=True),
    "half, redrawn at every epoch": Arm(0.5, redrawn=True, anew=True),
}
PREDICTED = {"redrawn against drawn once, top-1": 0.0}
"""Written before the first run."""


class Masks:
    """The channels of each weight that train now: all other gradients are 0."""

    def __init__(self, weights: list[nn.Parameter], arm: Arm, seed: int) -> None:
        self.weights, self.arm = weights, arm
        self._generator = torch.Generator().manual_seed(seed)
        self._masks: list[Tensor] = []
        self.draw()
        for turn, weight in enumerate(weights):
            weight.register_hook(lambda grad, turn=turn: grad * self._masks[turn])

    def draw(self) -> None:
        """Draws the channels of each weight anew."""
        self._masks = []
        for weight in self.weights:
            n_in = weight.shape[1]
            chosen = torch.randperm(n_in, generator=self._generator)[: round(self.arm.ratio * n_in)]
            mask = torch.zeros(1, n_in, 1, 1)
            mask[:, chosen] = 1.0
            self._masks.append(mask)

    def next_epoch_(self, optimizer: torch.optim.Optimizer) -> None:
        """Draws, and starts moments anew, if the arm does."""
        if self.arm.redrawn:
            self.draw()
        if self.arm.anew:
            for weight in self.weights:
                optimizer.state.pop(weight, None)


def trained_weights(net: nn.Module) -> Iterator[nn.Parameter]:
    """Yields the weights of convolutions that train."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.weight.requires_grad:
            yield module.weight


def accuracy_of(base: TrainConfig, name: str, seed: int) -> dict[str, Any]:
    """Trains an arm with a seed, and returns its accuracy on test images."""
    torch.set_num_threads(1)
    # Stock: whatever a lean block does with a gradient that is masked is not the question here.
    config = dataclasses.replace(base, method="Sparse", norm="frozen_bn", engine="stock", seed=seed)
    data, weights = load_dataset(config), read_weights(config)
    trainer = Trainer(config, data, weights)
    masks = Masks(list(trained_weights(trainer.net)), ARMS[name], seed)
    curve = []
    for epoch in range(config.epochs):
        if epoch:
            masks.next_epoch_(trainer.optimizer)
        curve.append(round(trainer.train_epoch().accuracy_top1, 4))
    assert data.test is not None
    return {
        "dataset": data.name,
        "backbone": config.backbone,
        "base_lr": config.base_lr,
        "arm": name,
        "seed": seed,
        "accuracy_top1": trainer.evaluate(data.test).accuracy_top1,
        "val_curve": curve,
    }


def main() -> None:
    """Trains every arm with every seed; writes means, standard errors and rows."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add_setting_flags(parser)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args()
    jobs = [(base, name, s) for base in base_configs(args).values() for name in ARMS for s in args.seeds]
    with ProcessPoolExecutor(args.processes, get_context("spawn")) as pool:
        rows = list(pool.map(accuracy_of, *zip(*jobs, strict=True)))
    means = []
    for backbone, arm in dict.fromkeys((row["backbone"], row["arm"]) for row in rows):
        found = [r["accuracy_top1"] for r in rows if (r["backbone"], r["arm"]) == (backbone, arm)]
        error = statistics.stdev(found) / len(found) ** 0.5 if len(found) > 1 else None
        mean = {"backbone": backbone, "arm": arm, "accuracy_top1_mean": statistics.mean(found)}
        means.append(mean | {"standard_error": error})
        print(json.dumps(means[-1]), flush=True)
    settings = {name: getattr(args, name) for name in ("epochs", "resolution", "batch_size", "seeds")}
    figures = {"predicted_before": PREDICTED, "settings": settings, "means": means, "rows": rows}
    write_result(args.json, figures)


if __name__ == "__main__":
    main()
