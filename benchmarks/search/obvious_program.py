"""What one would write without this project's tuner: Ray's multi-objective OptunaSearch example with its
MLflow callback, and tinytl's training inside.

As in the documentation: a function trainable that reports each epoch, objectives by name, a concurrency
limit, data passed by `with_parameters`, MLflow in SQLite. It writes no checkpoints, which saves it work.
`benchmarks.search.throughput` compares with it.

    python -m benchmarks.search.obvious_program --configurations FILE.json --folder runs/obvious
"""

import argparse
import json
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

from tinytl.config.flat import config_from_flat
from tinytl.config.train_config import TrainConfig
from tinytl.data.load import DataSplits, load_dataset
from tinytl.memory.predict import predict_memory
from tinytl.runs.trainer import Trainer

SPACE = {
    "method": tune.choice(["FT-Last", "FT-Norm+Last", "FT-Full", "TinyTL-B"]),
    "norm": tune.choice(["batch_norm", "frozen_bn"]),
    "batch_size": tune.choice([8, 16, 32]),
    "base_lr": tune.loguniform(1e-4, 1e-2),
}


def train(values: dict[str, Any], data: DataSplits, base: TrainConfig) -> None:
    """Trains one configuration, and reports the accuracy of each epoch and the memory of a step to Ray."""
    torch.set_num_threads(1)
    config = config_from_flat(values, base)
    peak_memory_mib = predict_memory(config).peak_mib
    trainer = Trainer(config, data)
    for _ in range(config.epochs):
        tune.report(trainer.train_epoch().flat() | {"peak_memory_mib": peak_memory_mib})


def main() -> None:
    """Tries the given configurations, then what Optuna suggests."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configurations", type=Path, help="a JSON list of configurations to try first")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, required=True)
    args = parser.parse_args()
    folder = args.folder.resolve()
    folder.mkdir(parents=True)
    points = json.loads(args.configurations.read_text()) if args.configurations else None
    base = TrainConfig(dataset="digits", num_classes=10, resolution=args.resolution, epochs=args.epochs)

    ray.init(address="local", num_cpus=args.workers)
    search = OptunaSearch(
        metric=["accuracy_top1", "peak_memory_mib"], mode=["max", "min"], points_to_evaluate=points, seed=0
    )
    trainable = tune.with_parameters(train, data=load_dataset(base), base=base)
    results = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space=SPACE,
        tune_config=tune.TuneConfig(
            search_alg=ConcurrencyLimiter(search, max_concurrent=args.workers), num_samples=args.trials
        ),
        run_config=tune.RunConfig(
            name="obvious",
            storage_path=str(folder),
            callbacks=[MLflowLoggerCallback(f"sqlite:///{folder}/mlflow.db", experiment_name="digits")],
        ),
    ).fit()
    print(results.get_dataframe()[["accuracy_top1", "peak_memory_mib"]])


if __name__ == "__main__":
    main()
