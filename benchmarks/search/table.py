"""Trains every configuration of search_table.yaml, so that searches can be compared by a look-up.

256 configurations of EfficientNet-Lite0 on the bundled digits, eight epochs each, one thread. A row has the
validation accuracy after each epoch, the predicted peak and the seconds per epoch. Rows are kept under
`--runs` as they come: a call that was cut off resumes. It needs about 80 minutes of one core.

    python -m benchmarks.search.table --json benchmarks/results/search_table_MACHINE_YYYYMM.json
"""

import argparse
import json
import statistics
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.shared.machine import store_no_features, write_result
from search_spaces.space import SearchSpace, load_space
from tinytl.config.train_config import TrainConfig

SPACE_FILE = Path(__file__).with_suffix(".yaml")
EPOCHS = 8


def table_space() -> SearchSpace:
    """Returns the finite space of the table: each of its configurations has a row."""
    return load_space(str(SPACE_FILE))


def configurations() -> list[dict[str, Any]]:
    """Returns the searched values of every configuration of the space."""
    return list(table_space().product(lambda parameter: parameter.distribution.choices))


def read_table(path: Path) -> dict[str, dict[str, Any]]:
    """Returns the rows of a result file by `row_key` of their configuration."""
    return {row_key(row["values"]): row for row in json.loads(path.read_text())["rows"]}


def row_key(values: Mapping[str, Any]) -> str:
    """Returns one text for equal values."""
    return json.dumps(dict(sorted(values.items())))


def main() -> None:
    """Trains what is missing and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks/search_table.jsonl"))
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    store_no_features()
    args.runs.parent.mkdir(parents=True, exist_ok=True)
    done = {}
    if args.runs.exists():
        done = {row_key(row["values"]): row for row in map(json.loads, args.runs.read_text().splitlines())}
    every = configurations()
    missing = [values for values in every if row_key(values) not in done]
    with ProcessPoolExecutor(args.processes, get_context("spawn")) as pool, args.runs.open("a") as lines:
        for row in pool.map(_train, missing):
            done[row_key(row["values"])] = row
            print(json.dumps(row), file=lines, flush=True)
            print(f"[{len(done)}/{len(every)}] {row['values']} {row['accuracy_top1'][-1]:.3f}", flush=True)
    rows = [done[row_key(values)] for values in every]
    write_result(args.json, {"epochs": EPOCHS, "rows": rows})


def _train(values: dict[str, Any]) -> dict[str, Any]:
    """Trains one configuration; if its loss diverges, the remaining epochs get the accuracy of a guess."""
    import torch

    from tinytl.config.flat import config_from_flat
    from tinytl.data.load import load_dataset
    from tinytl.errors import NonFiniteLossError
    from tinytl.memory.predict import predict_memory
    from tinytl.runs.trainer import Trainer

    torch.set_num_threads(1)
    base = TrainConfig(dataset="digits", epochs=EPOCHS, num_classes=10, device="cpu")
    config = config_from_flat(values, base)
    trainer = Trainer(config, load_dataset(config))
    epochs = []
    try:
        for _ in range(EPOCHS):
            epochs.append(trainer.train_epoch())
    except NonFiniteLossError:
        pass
    accuracies = [epoch.accuracy_top1 for epoch in epochs]
    return {
        "values": values,
        "accuracy_top1": accuracies + [1 / base.num_classes] * (EPOCHS - len(accuracies)),
        "diverged": len(epochs) < EPOCHS,
        "peak_memory_mib": predict_memory(trainer.config).peak_mib,
        "epoch_time_s": statistics.median(epoch.epoch_time_s for epoch in epochs) if epochs else None,
    }


if __name__ == "__main__":
    main()
