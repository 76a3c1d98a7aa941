"""Ray Tune and nothing else: the smallest program that trains tinytl's networks on digits in parallel.

`benchmarks.search.launch` compares with it: no Optuna, no MLflow, no prediction of memory.

    python -m benchmarks.search.bare_ray --trials 2 --workers 2
"""

import argparse
import dataclasses

import ray
import torch
from ray import tune

from tinytl.config.train_config import TrainConfig
from tinytl.data.load import load_dataset
from tinytl.runs.trainer import Trainer

CONFIG = TrainConfig(dataset="digits", method="FT-Full", norm="batch_norm", resolution=64, batch_size=8)
"""The first configuration of space `joint`, so that both programs' first steps are the same work."""


def train(values: dict[str, float], epochs: int) -> None:
    """Trains one learning rate."""
    torch.set_num_threads(1)
    config = dataclasses.replace(CONFIG, epochs=epochs, base_lr=values["base_lr"])
    trainer = Trainer(config, load_dataset(config))
    for _ in range(epochs):
        tune.report({"accuracy_top1": trainer.train_epoch().accuracy_top1})


def main() -> None:
    """Samples learning rates and trains them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    ray.init(address="local", num_cpus=args.workers)
    tune.Tuner(
        tune.with_parameters(train, epochs=args.epochs),
        param_space={"base_lr": tune.loguniform(1e-4, 1e-2)},
        tune_config=tune.TuneConfig(num_samples=args.trials, metric="accuracy_top1", mode="max"),
    ).fit()


if __name__ == "__main__":
    main()
