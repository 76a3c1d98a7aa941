"""Folders of runs as `python -m tinytl train` leaves them, without the training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tinytl.config.flat import config_from_flat, flat_from_config
from tinytl.config.train_config import TrainConfig


def _row(epoch: int, epochs: int, accuracy: float) -> dict[str, Any]:
    """Metrics of an epoch: accuracy in even steps up to `accuracy`, loss falling from 2."""
    share = epoch / epochs
    return {
        "epoch": epoch,
        "loss": 2.0 - share,
        "train_accuracy_top1": accuracy * share - 0.05,
        "accuracy_top1": accuracy * share,
        "val_loss": 2.2 - share,
        "lr.classifier": 1e-3,
        "epoch_time_s": 1.0,
        "measured_peak_mib": 20.5,
        "peak_memory_mib": 20.0,
    }


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run: `make("a", accuracy=0.6, memory=20.0, method="TinyTL-B", seed=1)`."""

    def make(
        name: str,
        *,
        epochs: int = 4,
        accuracy: float = 0.6,
        memory: float = 20.0,
        measured: float | None = 20.5,
        test: bool = True,
        finished: bool = True,
        **fields: Any,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        rows = [_row(epoch, epochs, accuracy) for epoch in range(1, epochs + 1)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        config = config_from_flat({"method": "FT-Last", "num_classes": 10} | fields, TrainConfig())
        result = {
            "train_accuracy_top1": accuracy - 0.05,
            "val_accuracy_top1": accuracy,
            "test_accuracy_top1": accuracy - 0.1 if test else None,
            "predicted_peak_mib": memory,
            "measured_peak_mib": measured,
            "config": flat_from_config(config),
        }
        if finished:
            (folder / "result.json").write_text(json.dumps(result))
        return folder

    return make
