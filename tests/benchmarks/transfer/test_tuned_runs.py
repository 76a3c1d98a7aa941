import dataclasses
import json
import math
import sys
from pathlib import Path

import pytest

from benchmarks.transfer import comparison, tuned_runs
from benchmarks.transfer.tuned_runs import GRID, Run, check_same_settings, tuned
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError

EPOCHS = 5


class Made:
    """A run whose validation accuracy falls with the distance, in decades, from the best rate."""

    def __init__(self, lr: float, best: float, trained: dict[float, int], diverges_from: float = math.inf):
        self.lr, self.best, self.trained, self.diverges_from = lr, best, trained, diverges_from
        self.val_curve: list[float] = []

    def train_until(self, epoch: int) -> None:
        self.trained[self.lr] = max(epoch, self.trained.get(self.lr, 0))
        while len(self.val_curve) < epoch and self.lr < self.diverges_from:
            self.val_curve.append(0.9 - 0.1 * abs(math.log10(self.lr / self.best)))

    def to_the_end(self) -> "Made":
        self.train_until(EPOCHS)
        return self

    worth = Run.worth
    _diverged = False


@pytest.mark.parametrize("best", [3e-6, 1e-4, 1e-3, 2e-2, 0.2])
def test_the_best_rate_lies_within_what_was_tried(best: float) -> None:
    trained: dict[float, int] = {}
    found, by_lr = tuned(lambda lr: Made(lr, best, trained), EPOCHS)  # type: ignore[arg-type, return-value]
    assert abs(math.log10(found.lr / best)) <= 0.25 + 1e-9
    assert min(by_lr) < found.lr < max(by_lr)
    assert len(found.val_curve) == EPOCHS
    on_grid = [trained[lr] for lr in GRID]
    assert sorted(on_grid) == [1, 1, 1, 2, EPOCHS, EPOCHS]


def test_a_rate_that_diverges_is_the_worst() -> None:
    trained: dict[float, int] = {}
    found, _ = tuned(lambda lr: Made(lr, 1.0, trained, diverges_from=2e-3), EPOCHS)  # type: ignore[arg-type, return-value]
    assert found.lr == pytest.approx(1e-3)


def test_a_row_counts_only_for_the_settings_that_made_it() -> None:
    row = {
        "variant": "v",
        "backbone": "b",
        "runs": [{"seed": 0}],
        "settings": {"epochs": 5, "resolution": 96},
    }
    path = Path("rows.json")
    config = TrainConfig(epochs=5, resolution=96)
    check_same_settings(row, config, [0], path)
    for changed, seeds, named in (
        ({"epochs": 3}, [0], "epochs 5, not 3"),
        ({"resolution": 64}, [0], "resolution 96, not 64"),
        ({}, [0, 1], r"seeds \[0\], not \[0, 1\]"),
    ):
        with pytest.raises(ConfigError, match=rf"^rows.json has a row v of b with {named}: give what it was"):
            check_same_settings(row, dataclasses.replace(config, **changed), seeds, path)
    older = {"variant": "v", "backbone": "b", "settings": {"epochs": 5, "seeds": [0, 1]}}
    check_same_settings(older, config, [0, 1], path)
    with pytest.raises(ConfigError, match="seeds"):
        check_same_settings(older, config, [0], path)


@pytest.mark.slow
def test_rows_are_written_as_they_end_and_not_trained_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.json"
    words = "x --epochs 1 --resolution 32 --seeds 0 --processes 1 --json".split()
    names = ["FT-Last, frozen_bn", "Sparse, frozen_bn, twice TinyTL-L+B, last"]
    monkeypatch.setattr(sys, "argv", [*words, str(path), "--only", *names])
    monkeypatch.setattr(tuned_runs, "about", dict)
    tuned_runs.compare("about", {}, comparison.variants_of)
    last, sparse = json.loads(path.read_text())["rows"]
    assert (last["variant"], sparse["variant"]) == tuple(names)
    for row in (last, sparse):
        assert row["accuracy_top1_mean"] > 0.5 and len(row["runs"][0]["loss_curve"]) == 1
        assert row["standard_error"] is None and row["least_mib"] > 5
    assert sparse["update_scheme"] and last["update_scheme"] is None
    capsys.readouterr()
    tuned_runs.compare("about", {}, comparison.variants_of)
    assert capsys.readouterr().out == ""
