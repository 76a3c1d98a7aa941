"""One training run from data to result files."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinytl.config import TrainConfig
from tinytl.data import load_dataset
from tinytl.flat_config import flat_from_config
from tinytl.memory import predict_memory, resolve_plan
from tinytl.planner import describe
from tinytl.trainer import Trainer

PREDICTION_TOLERANCE = 0.1
"""A measured peak that differs by more from the predicted one is a warning."""


def train_run(config: TrainConfig, out: Path, report: Callable[[str], None]) -> dict[str, Any]:
    """Trains `config`, writing `metrics.jsonl` (a line an epoch) and, at the end, `result.json` to `out`.

    The test images are read once, after the last epoch. `report` is given a line for the user now and then.

    Raises:
        ConfigError: before anything is written.
        NonFiniteLossError: where training diverges; the epochs before stay in `metrics.jsonl`.
    """
    data = load_dataset(config, report=report)
    config = resolve_plan(dataclasses.replace(config, num_classes=len(data.classes)))
    predicted = predict_memory(config)
    trainer = Trainer(config, data)
    sizes = ", ".join(
        f"{name} {len(split)}"
        for name, split in (("train", data.train), ("val", data.val), ("test", data.test))
        if split is not None
    )
    report(f"{data.name}: {len(data.classes)} classes, {sizes}")
    report(f"{config.backbone}: {trainer.account or 'random weights'}")
    report(f"plan {config.plan}: {describe(config)}")
    report(f"predicted peak {predicted.peak_mib:.1f} MiB at {predicted.peak_at}")
    out.mkdir(parents=True, exist_ok=True)
    with (out / "metrics.jsonl").open("w") as lines:
        for _ in range(config.epochs):
            metrics = trainer.train_epoch()
            row = metrics.flat() | {"peak_memory_mib": predicted.peak_mib}
            lines.write(json.dumps(row) + "\n")
            lines.flush()
            report(
                f"epoch {metrics.epoch}/{config.epochs}  loss {metrics.loss:.3f}  "
                f"train {metrics.train_accuracy_top1:.3f}  val {metrics.accuracy_top1:.3f}  "
                f"{metrics.epoch_time_s:.1f} s"
            )
    measured = metrics.measured_peak_mib
    if measured is not None and abs(predicted.peak_mib / measured - 1) > PREDICTION_TOLERANCE:
        report(
            f"warning: the allocator measured {measured:.1f} MiB, more than {PREDICTION_TOLERANCE:.0%} off "
            f"the predicted {predicted.peak_mib:.1f} MiB"
        )
    test_accuracy = None if data.test is None else trainer.evaluate(data.test)[0]
    result = {
        "train_accuracy_top1": metrics.train_accuracy_top1,
        "val_accuracy_top1": metrics.accuracy_top1,
        "test_accuracy_top1": test_accuracy,
        "predicted_peak_mib": predicted.peak_mib,
        "measured_peak_mib": measured,
        "config": flat_from_config(config),
    }
    (out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    return result
