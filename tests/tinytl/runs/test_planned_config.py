import dataclasses
from typing import Any

import pytest

from tests.support.cases import small
from tinytl.config.plan import lean_plan
from tinytl.config.train_config import TrainConfig
from tinytl.data.load import DataSplits
from tinytl.memory.predict import resolve_plan
from tinytl.runs.planned_config import planned_config


def _config(**changes: Any) -> TrainConfig:
    fields = {
        "method": "FT-Full",
        "norm": "group_norm",
        "base_lr": 1e-3,
        "num_classes": None,
        "batch_size": 4,
    }
    return small(**fields | changes)


def test_a_long_run_takes_the_format_that_was_measured(
    splits: DataSplits, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def stand_in(config: TrainConfig, n_steps: int, threads: int) -> TrainConfig | None:
        asked.append(n_steps)
        return dataclasses.replace(lean_plan(config), stock_below_kib=1024.0) if n_steps > 100 else None

    monkeypatch.setattr("tinytl.runs.planned_config.fastest_format", stand_in)
    steps = -(-len(splits.train) // 4)
    long = planned_config(_config(epochs=200), splits)
    assert asked == [200 * steps] and long.stock_below_kib == 1024.0
    short = planned_config(_config(epochs=1), splits)
    assert short == dataclasses.replace(resolve_plan(short), num_classes=long.num_classes)
    planned_config(_config(plan="smallest"), splits)
    assert len(asked) == 2
