"""Accuracy after an epoch on a device against an epoch of `tinytl train`, from the same pretrained start.

A row is a method, a seed and a rate of dropout: MobileNetV2 under frozen batch norm at 96 px, 8 pictures at a
time. Its folder of `export --training` is trained by its own program, and `tinytl train` trains the same
configuration; seed, order of pictures and crops are the same, the draws of dropout are not. Each is then
judged on the same validation images: by itself, and what the device trained also by `tinytl evaluate` after
`tinytl import`. A call again adds the rows that are missing.

    python -m benchmarks.transfer.device_accuracy --data-dir FOLDER --weights FILE \
        --json benchmarks/results/transfer_device_accuracy_MACHINE_YYYYMM.json
"""

import argparse
import io
import itertools
import json
import os
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from benchmarks.shared.machine import write_result
from tinytl.__main__ import main as tinytl
from tinytl.config.train_config import TrainConfig
from tinytl.runs.directory import config_text

METHODS = ("TinyTL-B", "TinyTL-L+B")
DROPOUTS = (0.2, 0.0)
PREDICTED = {"difference of accuracies / standard error, at most": 0.5}
"""Written before the first run."""
RESOLUTION, PICTURES_AT_A_TIME, BASE_LR = 96, 8, 1e-3


def said(*words: object) -> str:
    """Returns what a command of tinytl prints; it has to end well."""
    with redirect_stdout(io.StringIO()) as out:
        assert tinytl([*map(str, words)]) == 0
    return out.getvalue()


def row_of(method: str, seed: int, dropout: float, data_dir: Path, weights: Path) -> dict[str, Any]:
    """Trains one configuration in both ways."""
    config = TrainConfig(
        backbone="mobilenet_v2", method=method, norm="frozen_bn", weights=str(weights), input_mean=(0.5,) * 3,
        input_std=(0.5,) * 3, dataset="imagefolder", data_dir=str(data_dir), resolution=RESOLUTION, epochs=1,
        batch_size=PICTURES_AT_A_TIME, base_lr=BASE_LR, seed=seed, dropout=dropout, device="cpu",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        file, run, device, back = (folder / name for name in ("config.yaml", "run", "device", "back"))
        file.write_text(config_text(config))
        export = ("export", file, "--training", "--micro-batch-size", PICTURES_AT_A_TIME)
        said(*export, "--out", device)
        subprocess.run(
            [sys.executable, device / "train_on_device.py", "train", data_dir, "--threads", "1"], check=True
        )
        said("train", "--config", file, "--out", run)
        said("import", device, "--out", back)
        on_device = json.loads((device / "metrics.jsonl").read_text())
        in_tinytl = json.loads((run / "metrics.jsonl").read_text())
        imported = json.loads(said("evaluate", back, "--split", "val", "--json"))
    error = in_tinytl["standard_error"]
    return {
        "method": method,
        "seed": seed,
        "dropout": dropout,
        "device_accuracy_top1": on_device["accuracy_top1"],
        "imported_accuracy_top1": imported["accuracy_top1"],
        "tinytl_accuracy_top1": in_tinytl["accuracy_top1"],
        "standard_error": error,
        "difference_in_standard_errors": (on_device["accuracy_top1"] - in_tinytl["accuracy_top1"]) / error,
        "device_loss": on_device["loss"],
        "tinytl_loss": in_tinytl["loss"],
    }


def main() -> None:
    """Trains every row; prints and writes them."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--data-dir", type=Path, required=True, help="train/CLASS/*.jpg and val/CLASS/*.jpg")
    parser.add_argument("--weights", type=Path, required=True, help="state dict for inputs in [-1, 1]")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    os.nice(5)  # a benchmark of accuracies: what is timed goes first
    rows: list[dict[str, Any]] = json.loads(args.json.read_text())["rows"] if args.json.exists() else []
    done = {(row["method"], row["seed"], row["dropout"]) for row in rows}
    for seed, method, dropout in itertools.product(range(args.seeds), METHODS, DROPOUTS):
        if (method, seed, dropout) not in done:
            rows.append(row_of(method, seed, dropout, args.data_dir.resolve(), args.weights.resolve()))
            print(rows[-1], flush=True)
            write_result(args.json, {"predicted_before": PREDICTED, "rows": rows})


if __name__ == "__main__":
    main()
