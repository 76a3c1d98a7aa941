import json
import math
import sys
from pathlib import Path

import pytest

from benchmarks.transfer import comparison, tuned_runs
from benchmarks.transfer.tuned_runs import GRID, Run, tuned

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
