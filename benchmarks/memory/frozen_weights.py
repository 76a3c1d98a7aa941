"""Frozen weights in 16 or 8 bits: memory, time and accuracy against float32.

Memory: peaks of a step of MobileNetV2 at 224 px, predicted and by the allocator. Time: steps of each form
take turns, on one thread. Accuracy: how far the logits of EfficientNet-Lite0 move as its ImageNet weights are
rounded, on images of the digits set, and what a short training on that set reaches.

    python -m benchmarks.memory.frozen_weights --json benchmarks/results/memory_frozen_weights_STAMP.json
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.memory.timed_steps import median_times, prepare_step
from benchmarks.shared.machine import store_no_features, write_result
from tinytl.build import build_model
from tinytl.config.names import FROZEN_WEIGHTS
from tinytl.config.plan import lean_plan
from tinytl.config.train_config import TrainConfig
from tinytl.data.batches import eval_batches
from tinytl.data.load import load_dataset
from tinytl.memory.measured_step import measure_memory
from tinytl.memory.predict import predict_memory, resolve_plan
from tinytl.runs.progress import PlainProgress
from tinytl.runs.run import train_run
from tinytl.training.step import InputNormalizer

PREDICTED = {
    "TinyTL-B, int8, 224 px, one at a time, MiB": 10.6,
    "time of a step with int8 over float32, most": 1.05,
    "logits off by, relative: bfloat16": 0.01,
    "logits off by, relative: int8": 0.05,
    "test accuracy, int8 less float32": 0.0,
}
"""What was expected before the first run of this benchmark."""
METHODS = ("FT-Last", "TinyTL-B", "TinyTL-L+B")
STEPS = (("TinyTL-B", 224, 1), ("TinyTL-B", 224, 8), ("TinyTL-B", 96, 1), ("TinyTL-L+B", 224, 1))
"""Timed: method, resolution, samples at a time."""
LOGIT_IMAGES = 64


def memory_rows() -> Iterable[dict[str, Any]]:
    """Yields the peaks of each method in each form under its smallest plan."""
    for method in METHODS:
        for form in FROZEN_WEIGHTS:
            config = _mobilenet(method, 224, form)
            planned = resolve_plan(replace(config, plan="smallest"))
            prediction = predict_memory(planned)
            yield {
                "method": method,
                "frozen_weights": form,
                "predicted_mib": round(prediction.peak_mib, 2),
                "measured_mib": round(measure_memory(planned), 2),
                "parameters_mib": round(prediction.parts_mib["parameters"], 2),
                "peak_at": prediction.peak_at,
            }


def time_rows(rounds: int) -> Iterable[dict[str, Any]]:
    """Yields the times of steps of eight images, the forms in turns."""
    for method, resolution, micro in STEPS:
        config = replace(lean_plan(_mobilenet(method, resolution, "float32")), micro_batch_size=micro)
        steps = {form: prepare_step(replace(config, frozen_weights=form))[0] for form in FROZEN_WEIGHTS}
        seconds = median_times(steps, rounds)
        yield {
            "method": method,
            "resolution": resolution,
            "micro_batch_size": micro,
            "step_s": {form: round(seconds[form], 4) for form in FROZEN_WEIGHTS},
            "over_float32": {f: round(seconds[f] / seconds["float32"], 3) for f in FROZEN_WEIGHTS[1:]},
        }


def logit_rows() -> Iterable[dict[str, Any]]:
    """Yields how far the logits of a random head on the ImageNet network move as its weights are rounded."""
    val = load_dataset(_digits("float32", 0)).val
    images = next(eval_batches(val, batch_size=LOGIT_IMAGES, resolution=96, workers=0))[0]
    true = _logits("float32", images)
    for form in FROZEN_WEIGHTS[1:]:
        moved = _logits(form, images)
        yield {
            "frozen_weights": form,
            "relative_error": round(float((moved - true).norm() / true.norm()), 5),
            "same_class": round(float((moved.argmax(1) == true.argmax(1)).float().mean()), 3),
        }


def accuracy_rows(methods: Sequence[str], seeds: int, epochs: int) -> Iterable[dict[str, Any]]:
    """Yields the test accuracy that training on the digits set reaches in each form."""
    store_no_features()
    for method in methods:
        for form in FROZEN_WEIGHTS:
            found = []
            for seed in range(seeds):
                config = replace(_digits(form, seed), method=method, epochs=epochs)
                with tempfile.TemporaryDirectory() as folder:
                    result = train_run(config, Path(folder) / "run", PlainProgress(lambda line: None))
                found.append(result["test_accuracy_top1"])
            yield {
                "method": method,
                "frozen_weights": form,
                "test_accuracy_top1": round(statistics.mean(found), 4),
                "by_seed": found,
            }


def _mobilenet(method: str, resolution: int, form: str) -> TrainConfig:
    return TrainConfig(
        backbone="mobilenet_v2", weights="none", method=method, num_classes=10, batch_size=8,
        resolution=resolution, optimizer="adam", device="cpu", frozen_weights=form,
    )  # fmt: skip


def _digits(form: str, seed: int) -> TrainConfig:
    return TrainConfig(
        backbone="efficientnet_lite0", method="TinyTL-B", num_classes=10, resolution=64, base_lr=2e-3,
        seed=seed, device="cpu", frozen_weights=form,
    )  # fmt: skip


def _logits(form: str, images: Tensor) -> Tensor:
    """Returns logits of the ImageNet network with a random head, the same for each form."""
    torch.manual_seed(0)
    config = replace(_digits(form, 0), method="FT-Last")
    net = build_model(config).net.eval()
    with torch.no_grad():
        return net(InputNormalizer(config, torch.device("cpu"))(images))


def _shown(title: str, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    print(title)
    found = []
    for row in rows:
        print(*row.values(), flush=True)
        found.append(row)
    return found


def main() -> None:
    """Prints and writes every table."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--rounds", type=int, default=15, help="timed steps of each form")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--methods", nargs="*", default=["TinyTL-B"], help="to train on digits; none: no run")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    figures = {
        "predicted_before": PREDICTED,
        "memory": _shown("memory", memory_rows()),
        "time": _shown("time", time_rows(args.rounds)),
        "logits": _shown("logits", logit_rows()),
        "accuracy": _shown("accuracy", accuracy_rows(args.methods, args.seeds, args.epochs)),
    }
    if args.json:
        write_result(args.json, figures | {"rounds": args.rounds, "epochs": args.epochs})


if __name__ == "__main__":
    main()
